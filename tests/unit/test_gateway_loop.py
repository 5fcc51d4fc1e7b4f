"""The one event loop that all calls to gateways of a process share."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

from payments.gateways import loop
from payments.operations.process import Hearing
from tests.system import eventually

THREADS = 8
ASKING = 50


def test_threads_that_come_first_together_do_not_make_a_loop_each(monkeypatch):
    """All share one pool of connections, and its locks refuse a call that comes from another loop than theirs."""
    monkeypatch.setattr(loop, "make_loop", cache(loop.make_loop.__wrapped__))
    together = Barrier(THREADS)

    def come(_):
        together.wait(timeout=10)
        return loop.shared_loop()

    with ThreadPoolExecutor(THREADS) as threads:
        loops = set(threads.map(come, range(THREADS)))
    for made in loops:
        end(made)
    assert len(loops) == 1


def test_calls_that_begin_together_do_not_wait_for_each_other_s_names(monkeypatch):
    """All ask before any is answered: what waits longer than connecting may take counts as a gateway that is away."""
    together = Barrier(ASKING)

    def getaddrinfo(*_, **__):
        together.wait(timeout=10)
        return []

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    running = loop.shared_loop()
    asked = [asyncio.run_coroutine_threadsafe(running.getaddrinfo("gateway.test", 443), running) for _ in range(ASKING)]
    assert [one.result(timeout=20) for one in asked] == [[]] * ASKING


def test_what_one_turn_hears_comes_at_once():
    """Each by itself would be a settlement of its own."""
    hearing = Hearing()

    async def hear():
        for answer in "abc":
            hearing.put(answer)

    asyncio.run_coroutine_threadsafe(hear(), loop.shared_loop()).result(timeout=10)
    assert hearing.turns.get(timeout=10) == ["a", "b", "c"]
    assert hearing.turns.empty()


def end(running):
    running.call_soon_threadsafe(running.stop)
    eventually(lambda: not running.is_running(), within=10, what="the loop goes on")
    running.close()
