"""Where requests come in. Each is read to its end by the event loop, however slowly it comes, and then answered as a
whole: nobody's thread waits for a client.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from django.conf import settings

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]

#: How many requests with bodies larger than usual one process reads and answers at the same time; the others wait.
LARGE_AT_ONCE: Final = 16


class Door(Protocol):
    """What answers some requests by itself; False: it has done nothing."""

    async def answer(self, environ: Environ, body: bytes, send: Send) -> bool: ...


House = Callable[[Environ, Send], Awaitable[None]]


class Front:
    """An ASGI application: a door, and a house for whatever the door does not answer."""

    def __init__(self, door: Door, house: House) -> None:
        self.door = door
        self.house = house
        self.large = asyncio.Semaphore(LARGE_AT_ONCE)
        #: How many requests are being answered.
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        self.under_way += 1
        try:
            async with self.room_for(scope):
                body = await read_body(receive)
                if body is None:
                    return
                environ = environ_of(scope, body)
                if not await self.door.answer(environ, body, send):
                    await self.house(environ, send)
        finally:
            self.under_way -= 1

    def room_for(self, scope: Scope) -> AbstractAsyncContextManager[Any]:
        """What a request must wait for: nothing, unless its body may be large."""
        told = dict(scope["headers"])
        length = told.get(b"content-length", b"")
        is_small = int(length) <= settings.MAX_BODY_BYTES if length.isdigit() else b"transfer-encoding" not in told
        return nullcontext() if is_small else self.large


async def read_body(receive: Receive) -> bytes | None:
    """The body; None if the client has gone away before its end. Of one that is too large for any address only so much
    that everybody finds it too large.
    """
    parts: list[bytes] = []
    left = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1
    while left > 0:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(part := message.get("body", b""))
        left -= len(part)
        if not message.get("more_body"):
            break
    return b"".join(parts)


def environ_of(scope: Scope, body: bytes) -> Environ:
    """The request as WSGI has it: https://peps.python.org/pep-3333/#environ-variables.

    A header whose name has an underscore looks like one with a hyphen there, such as one of our own proxies': it is
    left out, as usual servers do.
    """
    server, client = scope.get("server") or ("", None), scope.get("client") or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0] or "localhost",
        "SERVER_PORT": str(server[1] or 80),
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue
        key, text = name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1")
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ.setdefault("CONTENT_LENGTH", str(len(body)))
    return environ
