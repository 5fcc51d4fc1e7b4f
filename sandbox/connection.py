"""The gateway's side of a connection: bodies in, answers out, and the ways in which it breaks."""

import json
import socket
import struct
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from sandbox.behaviours import Trouble
from sandbox.replies import Refusal, Reply

#: How long (s) an unanswered connection is held open: longer than any sane client waits.
SILENCE: Final = 90.0
MAX_BODY: Final = 64 * 1024
ERROR_PAGE: Final = b"<!doctype html><title>500</title><h1>Internal Server Error</h1>\n"
GARBAGE: Final = b'\x1f\x8b\x00{"id": "ch_\xff\xfe, status approved'
#: To linger for 0 s: what is not sent yet is thrown away, and closing sends a reset instead of an end.
NO_LINGER: Final = struct.pack("ii", 1, 0)


class Connection(BaseHTTPRequestHandler):
    """Reads requests and carries out replies; what to reply is for the subclass to say."""

    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    # Status line, headers and body leave in one packet each; Nagle's algorithm would hold the second back.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Reads."""
        self.serve()

    def do_POST(self) -> None:
        """Charges."""
        self.serve()

    def do_PATCH(self) -> None:
        """Changes of settings."""
        self.serve()

    def do_DELETE(self) -> None:
        """Settings forgotten."""
        self.serve()

    def serve(self) -> None:
        """One request from its body to its reply."""
        try:
            body = self.read_body()
            path, query = self.read_url()
            reply = self.reply_to(path, query, body)
        except Refusal as refusal:
            reply = refusal.reply
        self.carry_out(reply)

    def reply_to(self, path: str, query: dict[str, str], body: bytes) -> Reply:
        """What the gateway replies; may raise Refusal."""
        raise NotImplementedError

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the server lives."""
        raise NotImplementedError

    def read_url(self) -> tuple[str, dict[str, str]]:
        """The path and the query that are asked for."""
        try:
            url: SplitResult = urlsplit(self.path)
            return url.path, {name: values[-1] for name, values in parse_qs(url.query).items()}
        except ValueError:
            raise Refusal(400, "address_invalid", "The address cannot be understood.") from None

    def read_body(self) -> bytes:
        """The request's body; a GET or DELETE need not have one."""
        length = self.headers.get("Content-Length")
        if length is None and self.command in {"GET", "DELETE"} and "Transfer-Encoding" not in self.headers:
            return b""
        if length is None or not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            self.close_connection = True  # nobody knows where the next request would begin
            raise Refusal(400, "body_invalid", "Send a body with its length, of a few kilobytes at most.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise Refusal(400, "body_invalid", "The body ends before its length.")
        return body

    def carry_out(self, reply: Reply) -> None:
        """Answer, or do to the client what the reply's trouble says."""
        body = json.dumps(reply.document).encode()
        match reply.trouble:
            case Trouble.SILENCE:
                self.close_connection = True
                self.pause(SILENCE)
            case Trouble.RESET:
                self.reset()
            case Trouble.RESET_WITHIN:
                self.send(reply, "application/json", body, cut=len(body) // 2)
                self.reset()
            case Trouble.ERROR_PAGE:
                self.send(Reply(status=500), "text/html", ERROR_PAGE)
            case Trouble.GARBAGE:
                self.send(Reply(status=200), "application/json", GARBAGE)
            case _:
                self.send(reply, "application/json", body)

    def send(self, reply: Reply, content_type: str, body: bytes, *, cut: int | None = None) -> None:
        """Send the head and the body, up to `cut` bytes of it. A client that has gone away is no fault of ours."""
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def reset(self) -> None:
        """Have the connection end with a reset; the server closes it when the handler is through."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    def log_message(self, *args: Any) -> None:
        """No access log: the journal is the record."""


def will_reset(connection: socket.socket) -> bool:
    """Whether closing this connection resets it."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(NO_LINGER)) == NO_LINGER
