"""What keeps a Redis that does not answer from slowing down every request: after a failure it is left alone a while."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

#: How long (s) Redis is not asked after a failure. Asking costs up to the timeout of 0.25 s, so at most a quarter of
#: one thread's time goes into an outage.
PAUSE: Final = 1.0
#: Between two lines in the log about the same outage (s).
LOG_EVERY: Final = 5.0

WITHOUT_COUNTER = Counter(
    "payments_limits_without_counter",
    "Requests that were let through, or counted by one process alone, because Redis did not answer.",
    ["limit"],
)


def redis_failures() -> type[Exception]:
    """What Redis' client raises; looked up only when something is raised, for it takes 4 MB."""
    from redis import RedisError  # noqa: PLC0415  # see above

    return RedisError


class Fuse:
    """Whether Redis is asked. Once it has failed, one request in each `PAUSE` finds out how it does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """As if nothing had happened."""
        self.ask_at: float | None = None
        self.log_at = float("-inf")

    def admits(self) -> bool:
        """Whether the caller may ask. Who is let through tells how it went, by `mend` or `blow`."""
        with self.lock:
            if self.ask_at is None:
                return True
            if self.clock() < self.ask_at:
                return False
            self.ask_at = self.clock() + PAUSE
            return True

    def ask(self, question: Callable[[], Answer]) -> Answer | None:
        """What Redis says; None where it is left alone, or has just failed."""
        if not self.admits():
            return None
        try:
            answer = question()
        except redis_failures() as error:
            self.blow(error)
            return None
        self.mend()
        return answer

    def mend(self) -> None:
        """Redis has answered."""
        if self.ask_at is not None:
            self.ask_at = None
            log.info("limits_counted_again")

    def blow(self, error: Exception) -> None:
        """Redis has not answered."""
        with self.lock:
            now = self.clock()
            self.ask_at = now + PAUSE
            is_time = now >= self.log_at
            self.log_at = now + LOG_EVERY if is_time else self.log_at
        if is_time:
            # Its words name host and port, and never the password.
            log.error("limits_without_redis", error=type(error).__name__, detail=str(error)[:200])


#: Before the Redis of all limits.
redis_fuse = Fuse()
