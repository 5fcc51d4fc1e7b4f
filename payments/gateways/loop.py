"""Where calls to gateways run: an event loop in a thread of its own, so that waiting for a gateway costs no thread.

One per process, made at its first use, so that it is never carried across a fork.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

from messaging.clock import SuspendAwareEventLoop

#: Threads that resolve gateways' names, which alone blocks: asyncio's own few would take longer for some hundred calls
#: that begin together than each of those has to connect.
RESOLVERS: Final = 64
#: Calls under way in one process at most: with more, the loop itself would use up the calls' deadlines, and the breaker
#: would take that for the gateway's fault.
MOST_CALLS: Final = 512
room: Final = asyncio.Semaphore(MOST_CALLS)


def begin(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Start these from any thread, and do not wait for them."""
    running = shared_loop()
    running.call_soon_threadsafe(start_all, list(calls))


def start_all(calls: list[Coroutine[Any, Any, None]]) -> None:
    """Start them, in the loop's own thread."""
    for call in calls:
        task = asyncio.ensure_future(call)
        under_way.add(task)
        task.add_done_callback(under_way.discard)


#: The loop itself holds its tasks weakly: nobody may throw one away that is waiting.
under_way: set[asyncio.Future[None]] = set()


#: Threads that come first together must not make a loop each: the gateways' connections are good on one only.
making = threading.Lock()


def shared_loop() -> asyncio.AbstractEventLoop:
    """This process's loop, running."""
    with making:
        return make_loop()


@cache
def make_loop() -> asyncio.AbstractEventLoop:
    """The loop, at the first call."""
    loop = SuspendAwareEventLoop()
    loop.set_default_executor(ThreadPoolExecutor(RESOLVERS, thread_name_prefix="gateway-names"))
    threading.Thread(target=loop.run_forever, name="gateway-io", daemon=True).start()
    return loop
