"""The clock that measures durations within one process: leases, deadlines and time limits."""

import asyncio
import time
from typing import Final

#: Unlike `CLOCK_MONOTONIC`, it goes on while the machine is suspended (Linux: clock_gettime(2)). A worker that is
#: suspended for longer than its lease must know that when it resumes. Other systems have only the monotonic clock.
_CLOCK_ID: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_seconds() -> float:
    """Return the seconds since some fixed moment, with the time for which the machine was suspended.

    Setting the system's time does not change it.
    """
    return time.clock_gettime(_CLOCK_ID)


class SuspendAwareEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose timeouts go on while the machine is suspended."""

    def time(self) -> float:
        """Return the loop's time, by which all its timeouts are measured."""
        return elapsed_seconds()
