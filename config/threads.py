"""The house, which knows nothing of event loops, in threads of its own: each keeps its connection to the database."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from config.front import Environ, Message, Send

Headers = list[tuple[str, str]]
WSGI = Callable[..., Iterable[bytes]]


class InThreads:
    """Calls a WSGI application in one of so many threads. Who finds none free waits for one."""

    def __init__(self, application: WSGI, *, threads: int) -> None:
        self.application = application
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="web")

    async def __call__(self, environ: Environ, send: Send) -> None:
        """Answer one request."""
        loop = asyncio.get_running_loop()
        answer = Answer(partial(hand_over, loop, send))
        last = await loop.run_in_executor(self.pool, answer.run, self.application, environ)
        for message in last:
            await send(message)


def hand_over(loop: asyncio.AbstractEventLoop, send: Send, message: Message) -> None:
    """Send from a thread, and wait until the client can take more."""
    asyncio.run_coroutine_threadsafe(send(message), loop).result()  # type: ignore[arg-type]  # gunicorn's is one


class Answer:
    """One answer, as its thread makes it. Only one in several parts goes out before it is complete."""

    def __init__(self, hand_over: Callable[[Message], None]) -> None:
        self.hand_over = hand_over
        self.start: Message = {}
        self.begun = False

    def run(self, application: WSGI, environ: Environ) -> list[Message]:
        """Let the application answer; what is left to be sent."""
        parts = application(environ, self.start_response)
        held = None
        try:
            for part in parts:
                if held is not None:
                    self.push(held)
                held = part
        finally:
            getattr(parts, "close", lambda: None)()
        body: Message = {"type": "http.response.body", "body": held or b""}
        return [body] if self.begun else [self.start, body]

    def push(self, part: bytes) -> None:
        """Send a part to which others will follow."""
        if not self.begun:
            self.begun = True
            self.hand_over(self.start)
        self.hand_over({"type": "http.response.body", "body": part, "more_body": True})

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """As WSGI wants it."""
        code = int(status.partition(" ")[0])
        self.start = {"type": "http.response.start", "status": code, "headers": encoded(headers)}
        return self.push


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
