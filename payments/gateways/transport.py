"""HTTP for gateway adapters, with a *total* deadline and an exact answer to "can it have arrived?".

A read timeout bounds the wait for the next byte, so a server that drips one byte a second holds a caller
for ever. Here one timer bounds everything from name resolution to the last byte. What an answer may consist of, from
informational responses to the pieces of its body, is bounded by `messaging.capped_http`.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import httpcore2
import httpx2

from messaging.capped_http import CappedTransport, read_body

#: A gateway's answer is a few hundred bytes; one that never ends is cut off here.
MAX_ANSWER_BYTES: Final = 256 * 1024
#: Seconds to reach the gateway. Running out of it proves that nothing was sent.
CONNECT_TIMEOUT: Final = 5.0
#: Connections per process, and how many of them are kept: above `loop.MOST_CALLS`, so that no call spends its deadline
#: waiting for a connection.
MAX_CONNECTIONS: Final = 1_000
MAX_IDLE_CONNECTIONS: Final = 100
#: The only errors that prove that no byte of a request was sent: each is raised before there is a connection that can
#: carry one. `ConnectError` and `ConnectTimeout` come from name resolution, the TCP connection or the TLS handshake;
#: `UnsupportedProtocol` from the URL's scheme. A `WriteError` or `WriteTimeout` proves nothing: a part of the request,
#: which may be all that the gateway needs, can have been sent. The same holds for errors while reading
#: (`ReadError`, `ReadTimeout`, `RemoteProtocolError`), for closing, and for every class that the library adds.
NOTHING_SENT_ERRORS: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)


class NotSent(Exception):
    """No byte of the request left this machine."""


class NoAnswer(Exception):
    """The request may have arrived, and no whole answer came back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and body of a whole answer, and its headers by their lower-cased names."""

    status_code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """Sends requests, from one event loop; one per process.

    `network`: how connections are opened; `ssl_context`: which certificates are trusted.
    """

    def __init__(
        self,
        *,
        network: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._client = httpx2.AsyncClient(
            trust_env=False,
            headers={"Accept-Encoding": "identity"},  # bodies are read as they are
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
            transport=CappedTransport(
                max_body_bytes=MAX_ANSWER_BYTES,
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE_CONNECTIONS),
                network=network,
                ssl_context=ssl_context,
            ),
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str],
        json: Any = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its whole answer within `deadline` seconds.

        Raises:
            NotSent: connecting failed; nothing can have arrived.
            NoAnswer: anything else than a whole answer in time.
        """
        request = self._client.build_request(method, url, headers=dict(headers), json=json, params=params)
        try:
            async with asyncio.timeout(deadline):
                response = await self._client.send(request, stream=True)
                try:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(response.status_code, await read_capped(response), headers)
                finally:
                    await response.aclose()
        except NOTHING_SENT_ERRORS as error:
            raise NotSent(describe(error)) from error
        except TimeoutError as error:
            raise NoAnswer(f"no whole answer within {deadline:g} s") from error
        except (httpx2.HTTPError, OSError) as error:
            raise NoAnswer(describe(error)) from error


async def read_capped(response: httpx2.Response) -> bytes:
    """The body, as long as it is of a sane size and comes in a sane number of pieces."""
    body, is_whole = await read_body(response.aiter_raw(), max_bytes=MAX_ANSWER_BYTES)
    if not is_whole:
        raise NoAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes, or in too many pieces")
    return body


def describe(error: Exception) -> str:
    """The kind of error and its message, short."""
    return f"{type(error).__name__}: {error}"[:200].rstrip(": ")


@cache
def shared_transport() -> Transport:
    """This process's transport, made at its first use, on the loop that all calls run on."""
    return Transport()
