"""The house, which knows nothing of event loops, in threads of its own: each keeps its connection to the database."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from config.front import Environ, Message, Send

T = TypeVar("T")

Headers = list[tuple[str, str]]
WSGI = Callable[..., Iterable[bytes]]

#: An answer that comes in parts is sent in pieces of so many bytes: each costs the event loop a call, and lines of a
#: file are short.
PIECE: Final = 256 * 1024
#: How long (s) a thread waits for a client to take a piece. Below it, a line that is hardly one; far above, all threads
#: would wait for clients who do not read.
PATIENCE: Final = 60.0


class ClientGone(Exception):
    """Nobody is there to take the rest of an answer."""


class InThreads:
    """Calls a WSGI application in one of so many threads. Who finds none free waits for one."""

    def __init__(self, application: WSGI, *, threads: int, patience: float = PATIENCE) -> None:
        self.application = application
        self.patience = patience
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="web")

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function in one of the threads, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function)

    async def __call__(self, environ: Environ, send: Send) -> None:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        way = Way(loop, send, patience=self.patience)
        answer = Answer(way.hand_over)
        try:
            last = await loop.run_in_executor(self.pool, answer.run, self.application, environ)
        except ClientGone:
            return
        finally:
            way.end()
        for message in last:
            await send(message)


class Way:
    """From a thread to the client. It ends with the request, and then keeps no thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send, *, patience: float) -> None:
        self.loop = loop
        self.send = send
        self.patience = patience
        self.has_ended = False
        self.sending: asyncio.Task[Any] | None = None

    def hand_over(self, message: Message) -> None:
        """Send from a thread, and wait until the client can take more.

        Raises:
            ClientGone: it went, or took too long.
        """
        sent = asyncio.run_coroutine_threadsafe(self.take(message), self.loop)
        try:
            sent.result(self.patience)
        except (CancelledError, TimeoutError) as error:
            sent.cancel()
            raise ClientGone from error

    async def take(self, message: Message) -> None:
        """Send on the event loop."""
        if self.has_ended:
            raise ClientGone
        self.sending = asyncio.current_task()
        await self.send(message)

    def end(self) -> None:
        """Let a thread go that still waits here; for the event loop."""
        self.has_ended = True
        if self.sending is not None:
            self.sending.cancel()


class Answer:
    """One answer, as its thread makes it. Only one that is long and comes in parts goes out before it is complete."""

    def __init__(self, hand_over: Callable[[Message], None]) -> None:
        self.hand_over = hand_over
        self.start: Message = {}
        self.begun = False

    def run(self, application: WSGI, environ: Environ) -> list[Message]:
        """Let the application answer; what is left to be sent."""
        parts = application(environ, self.start_response)
        kept: list[bytes] = []
        size = 0
        try:
            for part in parts:
                if size >= PIECE:
                    self.push(b"".join(kept))
                    kept, size = [], 0
                if not self.shows_no_body(environ):
                    kept.append(part)
                    size += len(part)
        finally:
            getattr(parts, "close", lambda: None)()
        body: Message = {"type": "http.response.body", "body": b"".join(kept)}
        return [body] if self.begun else [self.start, body]

    def shows_no_body(self, environ: Environ) -> bool:
        """Whether HTTP allows none: the server would leave it out as well, and complain."""
        return environ["REQUEST_METHOD"] == "HEAD" or self.start["status"] in {204, 304}

    def push(self, part: bytes) -> None:
        """Send a part to which others will follow."""
        if not self.begun:
            self.begun = True
            self.hand_over(self.start)
        self.hand_over({"type": "http.response.body", "body": part, "more_body": True})

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """As WSGI wants it: with an error, another answer, unless one has begun."""
        if exc_info is not None and self.begun:
            raise exc_info[1]
        code = int(status.partition(" ")[0])
        self.start = {"type": "http.response.start", "status": code, "headers": encoded(headers)}
        return self.push


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
