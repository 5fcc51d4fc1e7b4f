"""Token buckets of one process alone, for what must stay limited while Redis does not answer."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: How many are remembered. The one that was asked longest ago is forgotten first, which fills it.
MOST: Final = 10_000


class LocalBuckets:
    """Key -> when its bucket is full again (monotonic seconds)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, *, burst: int, interval: float) -> tuple[bool, float]:
        """Take a token if there is one, of `burst`, one of which comes back every `interval` seconds.

        Whether there was one, and how long (s) until the bucket is full.
        """
        with self.lock:
            now = self.clock()
            full_at = max(self.full_at.get(key, now), now)
            granted = full_at + interval <= now + burst * interval + 1e-9
            if granted:
                full_at += interval
            self.full_at[key] = full_at
            self.full_at.move_to_end(key)
            if len(self.full_at) > MOST:
                self.full_at.popitem(last=False)
            return granted, full_at - now

    def give_back(self, key: str, *, interval: float) -> None:
        """One that was not needed."""
        with self.lock:
            if key in self.full_at:
                self.full_at[key] -= interval

    def clear(self) -> None:
        """Forget all of them."""
        self.full_at.clear()


local_buckets = LocalBuckets()
