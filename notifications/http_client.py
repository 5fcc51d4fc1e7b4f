"""Blocking HTTP calls for worker threads, each with one deadline for everything and with limits on the response.

A read timeout bounds the wait for the next byte only; on an event loop, one timer bounds the whole call. Calls run on
one loop in a thread of its own.
"""

import asyncio
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import httpx2

from messaging.capped_http import CappedTransport, read_body
from messaging.clock import SuspendAwareEventLoop


class NoResponse(Exception):
    """No complete response arrived; the request may have been processed."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. The body is as it came over the wire, also where it is compressed."""

    status_code: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


def send(request: httpx2.Request, *, deadline: float, max_body_bytes: int) -> Response:
    """Send one request and return its response, within `deadline` seconds in all. Redirects are not followed.

    Raises:
        NoResponse: there was no complete response in time, or it exceeds a limit.
    """
    call = _send(request, deadline=deadline, max_body_bytes=max_body_bytes)
    return asyncio.run_coroutine_threadsafe(call, _io_loop()).result()


async def _send(request: httpx2.Request, *, deadline: float, max_body_bytes: int) -> Response:
    try:
        async with asyncio.timeout(deadline), _client(max_body_bytes) as client:
            response = await client.send(request, stream=True)
            try:
                body, is_whole = await read_body(response.aiter_raw(), max_bytes=max_body_bytes)
            finally:
                await response.aclose()
    except TimeoutError:
        raise NoResponse(f"nothing whole within {deadline:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NoResponse(type(error).__name__) from None
    if not is_whole:
        raise NoResponse(f"more than {max_body_bytes} bytes")
    return Response(response.status_code, response.reason_phrase, response.headers, body)


def _client(max_body_bytes: int) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # one timer bounds the whole call  # nosec B113
        transport=CappedTransport(max_body_bytes=max_body_bytes, ssl_context=_ssl_context()),
    )


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return the trusted certificates. Loading them costs more than a call."""
    return httpx2.create_ssl_context(trust_env=False)


@cache
def _io_loop() -> asyncio.AbstractEventLoop:
    """Return this process's event loop for calls, made at its first use, so never across a fork."""
    loop = SuspendAwareEventLoop()
    threading.Thread(target=loop.run_forever, name="notifications-io", daemon=True).start()
    return loop
