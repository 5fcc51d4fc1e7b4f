"""How gunicorn serves the web process; the address to bind is given on the command line.

https://docs.gunicorn.org/en/stable/settings.html
"""

import asyncio
import gc
import json
import os
import signal
import socket
from http import HTTPStatus
from importlib import import_module
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi
from prometheus_client import multiprocess

workers = int(os.environ.get("WEB_PROCESSES", "2"))
asgi_lifespan = "off"
#: Not uvloop wherever that is installed: it gained nothing, and what runs must not depend on it.
asgi_loop = "asyncio"
#: Load the application once, then fork: faster start, shared memory.
preload_app = True
#: Above `lock_timeout`, the longest that a request waits in the database.
timeout = 30
graceful_timeout = 25
keepalive = 30
#: Below the 1,024 files that many systems give a process, with room for those to PostgreSQL.
worker_connections = 800
accesslog = None
errorlog = "-"
loglevel = "warning"
#: Heartbeat files on a disk can block a worker; memory cannot.
MEMORY = "/dev/shm"  # noqa: S108  # a fixed place, which nobody can choose  # nosec B108
worker_tmp_dir = MEMORY if os.path.isdir(MEMORY) else None  # noqa: PTH112  # looked at once


#: How long (s) a client may read nothing of an answer, or be silent though packets were sent: then the system cuts it
#: off, and what it has not read is no longer kept.
DEAF_AFTER = 60
#: How long (s) connections over which nothing is under way are kept when we stop: their clients may just be sending,
#: and are then told that it was the last answer. Gunicorn's threaded workers keep them as long.
LINGER = 2.0
#: After so many collections of the middle generation all is looked through. Python takes ten; from 3.14 on it collects
#: in small steps, and this number says nothing.
OLDEST_AFTER = 2


#: Status code -> code, title and detail of what this server refuses before the application sees it. They are those of
#: `payments.problems`, which nothing here can import: the application is loaded later.
REFUSALS = {
    400: ("invalid_request", "Invalid request", "This is not a well-formed HTTP request."),
    414: ("uri_too_long", "Address too long", "Send a shorter address: fewer or shorter query parameters."),
    431: ("headers_too_large", "Header fields too large", "Send fewer or shorter header fields, such as cookies."),
    501: ("not_implemented", "Not implemented", "Send `Transfer-Encoding: chunked` and no other transfer coding."),
}


def problem_of(status: int) -> dict[str, Any]:
    """Return the members of a problem without a request, which could not be read."""
    code, title, detail = REFUSALS.get(status, REFUSALS[400])
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "",
        "code": code,
        "errors": [],
        "retryable": False,
        "payment_id": None,
        "request_id": "",
    }


class Connection(ASGIProtocol):
    """Gunicorn's own, but the first request must come in time, too, a client that has said all still hears the answer,
    and its worker can find it.
    """

    has_ended = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._arm_keepalive_timer()
        if len(self.worker.connections) > self.worker.worker_connections:  # which nobody else heeds
            transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except ValueError:  # a length of thousands of digits
            self._send_error_response(400, "Bad Request")
            self._close_transport()

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """Send a problem (RFC 9457) in place of gunicorn's plain text, which can quote the request."""
        body = json.dumps(problem_of(status)).encode()
        headers = {
            "Content-Type": "application/problem+json",
            "Content-Length": str(len(body)),
            **dict(extra_headers),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {headers[name]}" for name in headers)]
        self._safe_write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:
        """That the client sends no more is not to say that it has gone; only half a request is none."""
        self.has_ended = True
        if self._body_receiver is not None and not self._body_receiver._complete:  # noqa: SLF001  # it does not tell
            self._body_receiver.signal_disconnect()
        self.leave()
        return True

    def _arm_keepalive_timer(self) -> None:
        if self.has_ended:
            self._keepalive_timeout()
        else:
            super()._arm_keepalive_timer()

    def _close_transport(self) -> None:
        super()._close_transport()
        self.transport.close()  # which it leaves out when the client was faster

    def leave(self) -> None:
        """Close it, unless something is under way."""
        if self._awaiting_request:
            self._keepalive_timeout()


gasgi.ASGIProtocol = Connection  # there is no setting for it


class Worker(gasgi.ASGIWorker):
    """Gunicorn's own, which on its way out waits for requests, and not for connections over which none is under way.

    Those of clients who keep them open would use up its whole grace each time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()

    def _setup_event_loop(self) -> None:
        """Let the loop take up connections one by one: it would take all that wait, however busy it is, and the other
        processes none.
        """
        super()._setup_event_loop()
        create_server = self.loop.create_server

        async def create_fair_server(*args: Any, sock: socket.socket, **options: Any) -> Any:
            server = await create_server(*args, sock=sock, backlog=1, **options)
            sock.listen(self.cfg.backlog)  # those that wait are as many as before
            return server

        self.loop.create_server = create_fair_server

    async def _shutdown(self) -> None:
        for server in self.servers:
            server.close()
        ends = self.loop.time() + LINGER
        while self.connections and not self._quick_shutdown and self.loop.time() < ends:
            self.notify()
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.leave()
        await super()._shutdown()


worker_class = Worker


def when_ready(server: Any) -> None:
    """What the processes inherit, and the connections of each listener."""
    collect_soon()
    for listener in server.LISTENERS:
        cut_off_the_deaf(listener.sock)


def cut_off_the_deaf(listener: socket.socket) -> None:
    """Have the system end connections whose other side takes nothing any more."""
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_AFTER * 1000)


def collect_soon() -> None:
    """Leave alone what has been loaded, and so collect often what requests leave.

    The framework's view, request and response hold each other, so refcounts free none of them: 300 kB of a list. By
    Python's own measure, a quarter of all that it has loaded, they would make up 15 MB before they were looked for, and
    the search would go through everything.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # what it compares with is what the latest has left: nothing
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, OLDEST_AFTER)


def post_worker_init(worker: Any) -> None:
    """When the process is told to stop, answer those who wait for a payment at once: they may outlive its grace."""
    room = import_module("payments.waiting").room

    def stop() -> None:
        worker.handle_exit_signal()
        room.close()

    worker.loop.add_signal_handler(signal.SIGTERM, stop)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead process's gauges out of the metrics."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(worker.pid)
