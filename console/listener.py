"""A receiver of webhooks for developers, as their own would be: takes each call and says what it was.

Signatures are verified by the unmodified `standardwebhooks` package.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

#: Bytes of a body that are read; a webhook of ours has fewer than 20 kB.
MOST_READ: Final = 1024 * 1024
#: How long (s) a caller may be silent.
PATIENCE: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One call. `again`: a call with its id came before. `document` is empty where the body is no JSON object."""

    at: datetime
    signature_ok: bool
    again: bool
    answered: int
    document: Mapping[str, Any]

    def line(self) -> str:
        """In one line."""
        data = self.document.get("data")
        said: Mapping[str, Any] = data if isinstance(data, dict) else {}
        version = f"v{said['version']}" if "version" in said else "-"
        words = [
            f"{self.at:%H:%M:%S}",
            shown(self.document.get("type"), "no JSON of ours"),
            shown(said.get("id")),
            shown(said.get("status")),
            shown(version),
            "signature ok" if self.signature_ok else "SIGNATURE WRONG",
            f"answered {self.answered}",
        ]
        return "  ".join([*words, "again"] if self.again else words)


@dataclass(slots=True)
class Listener:
    """What comes of calls. The first `fail` of them are answered with `failure`, the others with 200."""

    secret: str
    tell: Callable[[Received], None]
    fail: int = 0
    failure: int = 500
    seen: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> int:
        """Take one call and tell of it; the status of its answer. A wrong signature is refused, as by others."""
        is_ok = self.verifies(headers, body)
        with self.lock:  # calls come at the same time, and what is told of them must not mix
            answered = self.answer() if is_ok else 401
            id_ = headers.get("webhook-id", "")
            received = Received(
                at=now, signature_ok=is_ok, again=id_ in self.seen, answered=answered, document=document_of(body)
            )
            self.seen.add(id_)
            self.tell(received)
        return answered

    def verifies(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether it is signed with our secret, not long ago."""
        try:
            Webhook(self.secret).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError):
            return False
        return True

    def answer(self) -> int:
        """The next answer."""
        if self.fail <= 0:
            return 200
        self.fail -= 1
        return self.failure


class Server(ThreadingHTTPServer):
    """The listener's HTTP."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.listener: Listener | None = None

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_POST(self) -> None:
        """A webhook."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_READ:
            self.close_connection = True
            self.reply(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        listener = self.server.listener
        self.reply(listener.receive(headers, body, now=datetime.now().astimezone()) if listener else 503)

    def reply(self, status: int) -> None:
        """A status and no body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """What there is to say, the listener says."""


def document_of(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def shown(value: Any, instead: str = "-") -> str:
    """A value from outside, in a terminal: nothing in it may move the cursor."""
    text = "".join(sign for sign in str(value) if sign.isprintable())[:60] if value is not None else ""
    return text or instead
