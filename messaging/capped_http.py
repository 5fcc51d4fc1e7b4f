"""Outgoing HTTP with a limit on everything that a server may send back.

httpcore2 skips informational responses (1xx) without counting them, h11 bounds the size of one response head but not
the number of its lines, and a TLS stream returns decrypted bytes without yielding to the event loop. A server that
sends such a stream without an end would occupy the loop that all calls of a process share, and the timers of the calls
would not fire. Here the bytes are counted below the parser, before it sees them.

Clients pass `CappedTransport` to httpx2, or `CappedBackend` to a connection pool of httpcore2, and read bodies with
`read_body`, which never decompresses.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Final

import httpcore2
import httpx2

#: All heads of one response together: informational responses and the final one. Real ones have about a kilobyte.
MAX_HEAD_BYTES: Final = 32 * 1024
#: Lines in all heads of one response. Each costs the parser some microseconds.
MAX_HEAD_LINES: Final = 200
#: Responses 1xx before the final one. A client that sends no `Expect` has no use for any (RFC 9110, section 15.2).
MAX_INFORMATIONAL_RESPONSES: Final = 8
#: What surrounds a body on the wire: heads, chunk sizes, chunk extensions and trailers. A call may read so much more
#: than the body that it asked for.
MAX_OVERHEAD_BYTES: Final = 64 * 1024
#: Bytes parsed in one step. Other calls get their turn after each.
READ_SIZE_BYTES: Final = 8 * 1024
#: Pieces in which a body may come: a piece costs some ten microseconds, however small it is.
MAX_BODY_PIECES: Final = 1_000

#: Where a head ends; h11 takes the same.
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_INFORMATIONAL: Final = re.compile(rb"HTTP/[0-9.]+ +1")

#: The errors of httpcore2 and of httpx2 have the same names.
_ERRORS: Final = {
    getattr(httpcore2, name): getattr(httpx2, name)
    for name in (
        *("ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "WriteError", "WriteTimeout", "PoolTimeout"),
        *("NetworkError", "TimeoutException", "ProxyError", "UnsupportedProtocol", "ProtocolError"),
        *("LocalProtocolError", "RemoteProtocolError"),
    )
}


class ResponseTooLarge(httpcore2.ReadError):
    """The response exceeds a limit; the connection must not be used again."""


class _HeadLimits:
    """Counts the heads of one response. The parser decides what they mean; this only bounds how many there are."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._bytes = self._lines = self._responses = 0
        self._is_complete = False

    def check(self, data: bytes) -> None:
        """Count the next bytes. Raises ResponseTooLarge."""
        if self._is_complete:
            return
        searched = max(0, len(self._buffer) - 2)
        self._buffer += data
        self._lines += data.count(b"\n")
        while found := _END_OF_HEAD.search(self._buffer, searched):
            self._count(found.end())
            if not _INFORMATIONAL.match(self._buffer[: found.end()].lstrip(b"\r\n")):
                self._is_complete = True
                self._buffer.clear()
                return
            del self._buffer[: found.end()]
            searched = 0
        self._require(self._bytes + len(self._buffer), self._lines)

    def _count(self, size: int) -> None:
        """Count the head at the beginning of the buffer; what follows it may be a body."""
        rest = self._buffer.count(b"\n", size)
        self._bytes += size
        self._require(self._bytes, self._lines - rest)
        self._responses += 1
        if self._responses > MAX_INFORMATIONAL_RESPONSES + 1:
            raise ResponseTooLarge(f"more than {MAX_INFORMATIONAL_RESPONSES} informational responses")

    def _require(self, size: int, lines: int) -> None:
        if size > MAX_HEAD_BYTES:
            raise ResponseTooLarge(f"a response head of more than {MAX_HEAD_BYTES} bytes")
        if lines > MAX_HEAD_LINES:
            raise ResponseTooLarge(f"a response head of more than {MAX_HEAD_LINES} lines")


class CappedStream(httpcore2.AsyncNetworkStream):
    """A connection that is read in small steps, up to `max_bytes` for each request that is written to it."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, max_bytes: int) -> None:
        self._stream, self._max_bytes = stream, max_bytes
        self._bytes_left, self._head = max_bytes, _HeadLimits()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # the interface's
        """Return the next bytes. Raises ResponseTooLarge."""
        await asyncio.sleep(0)  # bytes that TLS has decrypted already would come without a pause
        data = await self._stream.read(min(max_bytes, READ_SIZE_BYTES), timeout)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise ResponseTooLarge(f"a response of more than {self._max_bytes} bytes")
        self._head.check(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the interface's
        """Send bytes. A request begins, and with it the limits of its response."""
        self._bytes_left, self._head = self._max_bytes, _HeadLimits()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
    ) -> httpcore2.AsyncNetworkStream:
        """Return the connection, encrypted and with the same limits."""
        encrypted = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return CappedStream(encrypted, max_bytes=self._max_bytes)

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)


class CappedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections that are read up to `max_bytes` for each request."""

    def __init__(self, *, max_bytes: int, network: httpcore2.AsyncNetworkBackend | None = None) -> None:
        self._max_bytes, self._network = max_bytes, network or httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect."""
        stream = await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return CappedStream(stream, max_bytes=self._max_bytes)


class CappedTransport(httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient` that reads bodies of up to `max_body_bytes`, and no proxy settings."""

    def __init__(
        self,
        *,
        max_body_bytes: int,
        limits: httpx2.Limits | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        limits = limits or httpx2.Limits()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpx2.create_ssl_context(trust_env=False),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=CappedBackend(max_bytes=max_body_bytes + MAX_OVERHEAD_BYTES, network=network),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response, with the body still to be read."""
        assert isinstance(request.stream, AsyncIterable), "the client is asynchronous"
        url = request.url
        inner = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            response = await self._pool.handle_async_request(inner)
        except Exception as error:
            raise _translate(error) from error
        assert isinstance(response.stream, AsyncIterable), "the pool is asynchronous"
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_BodyStream(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _BodyStream(httpx2.AsyncByteStream):
    """A body, with the errors of httpx2."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with aclosing(self._response.aiter_stream()) as pieces:
                async for piece in pieces:
                    yield piece
        except Exception as error:
            raise _translate(error) from error

    async def aclose(self) -> None:
        """Release the connection, or close it if the body was not read to its end."""
        await self._response.aclose()


def _translate(error: Exception) -> Exception:
    """Return the error of httpx2 that means the same; others stay as they are."""
    kind = next((_ERRORS[base] for base in type(error).__mro__ if base in _ERRORS), None)
    return error if kind is None else kind(str(error))


async def read_body(pieces: AsyncGenerator[bytes], *, max_bytes: int) -> tuple[bytes, bool]:
    """Return the body as it came over the wire, and whether that is all of it.

    Reading stops after `max_bytes` or `MAX_BODY_PIECES`. The caller closes the response.
    """
    body = bytearray()
    number = 0
    async with aclosing(pieces):
        async for piece in pieces:
            body += piece
            number += 1
            if len(body) > max_bytes or number > MAX_BODY_PIECES:
                return bytes(body[:max_bytes]), False
    return bytes(body), True
