"""Connections that lead to addresses that were checked, whatever the host's name stands for by now.

A request keeps the name of its host, so that `Host`, SNI and certificate agree on it; only where the bytes go is
settled here. What one connection may read is bounded too: the parser above bounds neither interim answers nor the
extensions of chunks.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import httpcore2

#: All that is read of one answer, in bytes: its body, its head and what surrounds them.
MAX_READ: Final = 256 * 1024
#: Parsed at one go, in bytes: many tiny chunks of one answer must not hold up all other calls.
MAX_PIECE: Final = 8 * 1024


class TooMuch(httpcore2.ReadError):
    """What surrounds an answer does not end."""


class HandshakeFailed(httpcore2.ConnectError):
    """No TLS connection; `reason` is OpenSSL's error, or None when the connection broke off."""

    def __init__(self, error: httpcore2.ConnectError) -> None:
        super().__init__(*error.args)
        self.reason = next((it for it in error.args if isinstance(it, ssl.SSLError)), None)


class Pinned(httpcore2.AsyncNetworkBackend):
    """Connects to the first of its addresses that answers. Names are never resolved again."""

    def __init__(self, addresses: Sequence[str], network: httpcore2.AsyncNetworkBackend) -> None:
        self._addresses, self._network = addresses, network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to an address; `host` is not heeded."""
        *others, last = self._addresses
        for address in others:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return Bounded(await self._network.connect_tcp(address, port, timeout, local_address, socket_options))
        return Bounded(await self._network.connect_tcp(last, port, timeout, local_address, socket_options))


class Bounded(httpcore2.AsyncNetworkStream):
    """A connection that is read in small pieces and not for ever."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream, self._left = stream, MAX_READ

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # the interface's
        """The next piece. Raises TooMuch."""
        await asyncio.sleep(0)  # what TLS has decrypted already would come without a pause
        data = await self._stream.read(min(max_bytes, MAX_PIECE), timeout)
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the interface's
        """Send bytes."""
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
        """The connection, encrypted. Raises HandshakeFailed."""
        try:
            return Bounded(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except httpcore2.ConnectError as error:
            raise HandshakeFailed(error) from error

    def get_extra_info(self, info: str) -> Any:
        """What is known of the connection."""
        return self._stream.get_extra_info(info)
