"""The clock of leases and deadlines: it goes on while the machine is suspended."""

import asyncio
import time

import pytest

from messaging import clock
from payments.gateways import loop


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux alone has a clock that counts suspension")
def test_durations_include_the_time_for_which_the_machine_was_suspended(monkeypatch):
    monkeypatch.setattr(time, "clock_gettime", lambda clock_id: {time.CLOCK_BOOTTIME: 4711.0}.get(clock_id, 0.0))
    assert clock.elapsed_seconds() == 4711.0


def test_a_deadline_passes_while_the_machine_is_suspended(monkeypatch):
    """The machine sleeps for two hours in the middle of a call that may take one."""
    suspended = 0.0
    real = clock.elapsed_seconds
    monkeypatch.setattr(clock, "elapsed_seconds", lambda: real() + suspended)

    async def call():
        nonlocal suspended
        async with asyncio.timeout(3600):
            suspended = 7200.0
            await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=clock.SuspendAwareEventLoop) as runner, pytest.raises(TimeoutError):
        runner.run(call())


def test_calls_to_gateways_run_on_such_a_loop():
    assert isinstance(loop.shared_loop(), clock.SuspendAwareEventLoop)
