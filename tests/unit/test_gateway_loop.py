"""The one event loop that all calls to gateways of a process share."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

from payments.gateways import loop
from tests.system import eventually

THREADS = 8


def test_threads_that_come_first_together_do_not_make_a_loop_each(monkeypatch):
    """Calls on another loop than their connections' are never answered."""
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


def end(running):
    running.call_soon_threadsafe(running.stop)
    eventually(lambda: not running.is_running(), within=10, what="the loop goes on")
    running.close()
