"""Somebody's webhook endpoint: a real HTTP server in threads, which answers as the test says and remembers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Call:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answer` says the status (and headers) of a call; by default 204."""

    answer: Callable[[Call], int | tuple[int, dict[str, str]]] = lambda _call: 204
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    host: str = "127.0.0.1"
    server: ThreadingHTTPServer | None = None

    def start(self) -> "Receiver":
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender was killed in the middle of it
                    self.close_connection = True
                    return
                call = Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.calls.append(call)
                said = receiver.answer(call)
                status, headers = said if isinstance(said, tuple) else (said, {})
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer((self.host, 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks"
        return self

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def ids(self) -> list[str]:
        """The `webhook-id` of each call, in the order of arrival."""
        return [call.headers["webhook-id"] for call in self.calls]
