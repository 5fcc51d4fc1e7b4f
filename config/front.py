"""Where requests come in. Each is read to its end by the event loop, however slowly it comes, and then answered as a
whole: no thread waits for a client.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from django.conf import settings

from config.large_bodies import LARGE_BODY_TIMEOUT_SECONDS

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]

#: How long (s) a body of the usual size may take to come: it holds a connection and its own bytes, and nothing else.
BODY_TIMEOUT_SECONDS: Final = 60.0
#: How long (s) the rest of a body is read, and thrown away, that was refused. A connection that is closed before takes
#: the answer with it.
PATIENCE_WITH_REST: Final = 5.0
#: Stands for a body that was not read to its end: longer than any but a batch's, and no document or form.
UNREAD_BODY: Final = b"\0" * (settings.MAX_BODY_BYTES + 1)


class Door(Protocol):
    """What answers some requests by itself; False: it has done nothing."""

    async def answer(self, environ: Environ, body: bytes, send: Send) -> bool: ...


House = Callable[[Environ, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a body, and whether that is all of it."""

    body: bytes = b""
    has_ended: bool = False


class LargeBodies(Protocol):
    """Admits bodies larger than usual: see `config.large_bodies`."""

    async def find_sender(self, environ: Environ) -> Hashable | None:
        """Return who may send one; None to refuse it."""
        ...

    def place(self, merchant: Hashable) -> AbstractAsyncContextManager[None]:
        """Wait for a place for it, and hold it."""
        ...


class Front:
    """An ASGI application: a door, and a house for whatever the door does not answer."""

    def __init__(self, door: Door, house: House, large: LargeBodies) -> None:
        self.door = door
        self.house = house
        self.large = large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        read = await read_body(receive, most=settings.MAX_BODY_BYTES, timeout_seconds=BODY_TIMEOUT_SECONDS)
        if read is None:
            await say_too_late(send)
        elif len(read.body) <= settings.MAX_BODY_BYTES:
            await self.answer(environ_of(scope, read.body), read.body, send)
        else:
            await self.serve_large(scope, read, receive, send)

    async def answer(self, environ: Environ, body: bytes, send: Send) -> None:
        """Have a request answered that is there as a whole."""
        if not await self.door.answer(environ, body, send):
            await self.house(environ, send)

    async def serve_large(self, scope: Scope, begun: Read, receive: Receive, send: Send) -> None:
        """Read the rest of a body larger than usual, if its sender may send one; else refuse the request.

        The house refuses it, in the usual words: the body that it gets is too large, and no parser can read it.
        """
        sender = await self.large.find_sender(environ_of(scope, UNREAD_BODY))
        if sender is None:
            await self.house(environ_of(scope, UNREAD_BODY), send)
            has_ended = begun.has_ended
        else:
            async with self.large.place(sender):
                read = await read_body(
                    receive, begun, most=settings.MAX_BATCH_BYTES, timeout_seconds=LARGE_BODY_TIMEOUT_SECONDS
                )
                if read is None:
                    await say_too_late(send)
                    return
                await self.house(environ_of(scope, read.body), send)
                has_ended = read.has_ended
        if not has_ended:
            await read_rest(receive)


async def read_body(receive: Receive, begun: Read = Read(), *, most: int, timeout_seconds: float) -> Read | None:
    """Read until the body ends or is longer than `most`; None if it does not come in time, or its sender has gone."""
    parts, size, has_ended = [begun.body], len(begun.body), begun.has_ended
    try:
        async with asyncio.timeout(timeout_seconds):
            while not has_ended and size <= most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(part := message.get("body", b""))
                size += len(part)
                has_ended = not message.get("more_body", False)
    except TimeoutError:
        return None
    return Read(b"".join(parts), has_ended)


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
