"""Calls webhooks: hundreds at the same time, none of them where it must not go or for longer than it may take.

All calls of a process run on one event loop in a thread of its own. A name is resolved once, every address that it has
is checked, and one of those addresses is called. Each call has a connection pool of its own: connections go to an
address, and one that was kept could serve another host there.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from typing import Final

import httpcore2
import structlog
from django.conf import settings
from django.utils.translation import gettext_noop as _

from messaging.capped_http import read_body
from messaging.clock import SuspendAwareEventLoop
from notifications.outcomes import Failed, Result
from notifications.webhooks.addresses import is_public
from notifications.webhooks.answers import Answer, error_in_words, result_of
from notifications.webhooks.pinned import Pinned
from notifications.webhooks.targets import NOT_PUBLIC, Target, TargetRefused, read_target

log = structlog.get_logger(__name__)

#: Seconds for a call in all, from the name's resolution to the answer's last byte.
DEADLINE: Final = 15.0
#: Seconds to reach one address, and as many for TLS: a dead one leaves time for the next.
CONNECT_TIMEOUT: Final = 4.0
#: A host may have many addresses; who cannot be reached at three is down.
MAX_ADDRESSES: Final = 3
#: What is read of an answer's body, in bytes: its status has said all that counts.
MAX_BODY: Final = 64 * 1024
#: Name resolution blocks a thread, for half a minute if the name's servers are silent: twice as long as the call that
#: asked. So twice as many as calls may be under way (WEBHOOKS_IN_FLIGHT); with fewer, silent names would use up the
#: threads, and calls to all others would wait for one until their deadline. They are made when they are needed.
RESOLVER_THREADS: Final = 1_200

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Unresolved(Exception):
    """The host's name has no address, or nobody says which."""


class Caller:
    """Calls webhooks from any thread; one per process.

    `private`: whether calls may go into our own network, and without TLS. `resolve`: a host's addresses; `network`: how
    an address is connected to; `context`: whose certificates are trusted.
    """

    def __init__(
        self,
        *,
        private: bool,
        resolve: Resolve | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._private = private
        self._resolve = resolve or self._ask_dns
        self._network = network or httpcore2.AnyIOBackend()
        self._context = context or ssl.create_default_context()
        self._resolvers = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="webhook-dns")
        self._loop = SuspendAwareEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook-io", daemon=True)
        self._thread.start()

    def submit(
        self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float = DEADLINE
    ) -> Future[Result]:
        """Begin a call. The future always gets a result, and never an error; until `close`."""
        call = self.call(url, headers=headers, body=body, deadline=deadline)
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def call_now(self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float = DEADLINE) -> Result:
        """Call, and wait for what comes of it."""
        return self.submit(url, headers=headers, body=body, deadline=deadline).result()

    async def call(self, url: str, *, headers: Mapping[str, str], body: bytes, deadline: float = DEADLINE) -> Result:
        """POST the body, once, within `deadline` seconds in all. Raises nothing."""
        try:
            async with asyncio.timeout(deadline):
                target = read_target(url, private=self._private)
                answer = await self._post(target, await self._addresses(target), headers, body)
            return result_of(answer, now=datetime.now(UTC))
        except TargetRefused as refused:
            return Failed(detail=refused.sentence, final=refused.code != NOT_PUBLIC[0])
        except Unresolved:
            return Failed(detail=_("the name of its host could not be resolved"))
        except TimeoutError:
            return Failed(detail=_("no whole answer within %(number)s s") % {"number": f"{deadline:g}"})
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.RemoteProtocolError, OSError) as error:
            return Failed(detail=error_in_words(error))
        except Exception:
            log.exception("webhook_call_defect")
            return Failed(detail="a defect on our side, which is logged")

    def close(self) -> None:
        """Drop all calls and end the thread."""
        asyncio.run_coroutine_threadsafe(cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, target: Target) -> list[str]:
        """Where to call, checked. One address that must not be called speaks against all: who mixes them has a plan."""
        found = [target.host] if target.literal else await self._resolve(target.host, target.port)
        if not found:
            raise Unresolved
        if not (self._private or all_public(found)):
            raise TargetRefused(*NOT_PUBLIC)
        return found[:MAX_ADDRESSES]

    async def _ask_dns(self, host: str, port: int) -> list[str]:
        """What the system's resolver says, in its order.

        The dot at the end keeps the machine's own search domains out; a developer may need them.
        """
        name = host if self._private else f"{host}."
        ask = asyncio.get_running_loop().run_in_executor
        try:
            found = await ask(self._resolvers, lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            raise Unresolved from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def _post(self, target: Target, addresses: list[str], headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the request to one of the addresses and read the answer."""
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        fixed = {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close"}
        backend = Pinned(addresses, self._network)
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=self._context, network_backend=backend) as pool,
            pool.stream(
                "POST",
                url,
                headers=list({**headers, **fixed}.items()),
                content=body,
                extensions={"timeout": {"connect": CONNECT_TIMEOUT}},
            ) as response,
        ):
            body, _ = await read_body(response.aiter_stream(), max_bytes=MAX_BODY)
            return Answer(status_code=response.status, headers=read_headers(response.headers), body=body)


async def cancel_others() -> None:
    """Cancel all tasks of this loop but the one that asks."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def all_public(addresses: Iterable[str]) -> bool:
    """Whether all of them are on the public internet; what is no address is not."""
    try:
        return all(is_public(ip_address(address)) for address in addresses)
    except ValueError:
        return False


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their lower-cased names; of one that stands there several times, the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


@cache
def shared_caller() -> Caller:
    """This process's caller, made at its first use, so that it is never carried across a fork."""
    return Caller(private=settings.WEBHOOK_PRIVATE_TARGETS)
