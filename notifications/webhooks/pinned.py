"""Connections that lead to addresses that were checked, whatever the host's name stands for by now.

A request keeps the name of its host, so that `Host`, SNI and certificate agree on it; only where the bytes go is
settled here. What one connection may read is bounded by `messaging.capped_http`.
"""

import contextlib
import ssl
from collections.abc import Iterable, Sequence
from typing import Final

import httpcore2

from messaging.capped_http import CappedStream

#: All bytes that are read of one response: its body, its head and what surrounds them.
MAX_RESPONSE_BYTES: Final = 256 * 1024


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
                stream = await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
                return PinnedStream(stream, max_bytes=MAX_RESPONSE_BYTES)
        stream = await self._network.connect_tcp(last, port, timeout, local_address, socket_options)
        return PinnedStream(stream, max_bytes=MAX_RESPONSE_BYTES)


class PinnedStream(CappedStream):
    """A connection before TLS."""

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
    ) -> httpcore2.AsyncNetworkStream:
        """Return the connection, encrypted. Raises HandshakeFailed."""
        try:
            return await super().start_tls(ssl_context, server_hostname, timeout)
        except httpcore2.ConnectError as error:
            raise HandshakeFailed(error) from error
