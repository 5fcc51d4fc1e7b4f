"""Where requests come in. Each is read to its end by the event loop, however slowly it comes, and then answered as a
whole: nobody's thread waits for a client.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
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
#: How long (s) a body may take to come: the largest, over a line that is hardly one. Whoever sends byte by byte has one
#: of the places for large bodies no longer than that.
PATIENCE: Final = 60.0
#: How long (s) the rest of a body is read that is too large for any address. A connection that is closed before takes
#: the answer with it.
PATIENCE_WITH_REST: Final = 5.0


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        async with self.room_for(scope):
            is_read = await self.serve(scope, receive, send)
        if not is_read:
            await read_rest(receive)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Read it and have it answered; whether there is nothing more to be read of it."""
        read = await read_body(receive)
        if read is None:
            await say_too_late(send)
            return True
        body, is_whole = read
        environ = environ_of(scope, body)
        if not await self.door.answer(environ, body, send):
            await self.house(environ, send)
        return is_whole

    def room_for(self, scope: Scope) -> AbstractAsyncContextManager[Any]:
        """What a request must wait for: nothing, unless its body may be large."""
        told = dict(scope["headers"])
        length = told.get(b"content-length", b"")
        is_small = int(length) <= settings.MAX_BODY_BYTES if length.isdigit() else b"transfer-encoding" not in told
        return nullcontext() if is_small else self.large


async def read_body(receive: Receive) -> tuple[bytes, bool] | None:
    """The body, and whether that is all; None if it does not come to its end. Of one that is too large for any address
    only so much that everybody finds it too large.
    """
    parts: list[bytes] = []
    left, more = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1, True
    try:
        async with asyncio.timeout(PATIENCE):
            while more and left > 0:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(part := message.get("body", b""))
                left -= len(part)
                more = message.get("more_body", False)
    except TimeoutError:
        return None
    return b"".join(parts), not more


async def say_too_late(send: Send) -> None:
    """To whom has not sent all of a request; nobody hears it if that one has gone."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 408, "headers": headers})
    await send({"type": "http.response.body"})


async def read_rest(receive: Receive) -> None:
    """What nobody wants, so that its sender comes to read the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_WITH_REST):
            while (await receive()).get("more_body"):
                pass


def environ_of(scope: Scope, body: bytes) -> Environ:
    """The request as WSGI has it: https://peps.python.org/pep-3333/#environ-variables.

    A header whose name has an underscore looks like one with a hyphen there, such as one of our own proxies': it is
    left out, as usual servers do.
    """
    server, client = scope.get("server") or ("", None), scope.get("client") or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path_in(scope["raw_path"])).decode("latin-1"),
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
    if (authority := authority_in(scope["raw_path"])) is not None:
        environ["HTTP_HOST"] = authority.decode("latin-1")
    return environ


def path_in(target: bytes) -> bytes:
    """The path of what is asked for, which may be told as a whole address: RFC 9112, section 3.2.2."""
    if target.startswith(b"/"):
        return target
    _scheme, _, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if rest else target


def authority_in(target: bytes) -> bytes | None:
    """Return the authority of a request target in absolute form, which replaces `Host`: RFC 9112, section 3.2.2."""
    if target.startswith(b"/") or b"://" not in target:
        return None
    return target.partition(b"://")[2].partition(b"/")[0]
