"""The webhooks that wait to be sent, in order of their due times."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True, slots=True, kw_only=True)
class Delivery:
    """One webhook on its way; `due` is by the monotonic clock, `number` says in which order they were told."""

    due: float
    number: int
    event_id: str = field(compare=False)
    body: bytes = field(compare=False)
    failures: int = field(default=0, compare=False)


class Waiting:
    """A heap of at most `limit` deliveries. Its owner's lock guards it.

    `pick` chooses a number below the one it is given, for the shuffle.
    """

    def __init__(self, limit: int, *, pick: Callable[[int], int]) -> None:
        self._limit, self._pick = limit, pick
        self._heap: list[Delivery] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delivery: Delivery) -> Delivery | None:
        """Have it wait. The oldest, if there is one too many, is dropped and returned."""
        heapq.heappush(self._heap, delivery)
        if len(self._heap) <= self._limit:
            return None
        oldest = min(self._heap, key=lambda each: each.number)
        self._heap.remove(oldest)
        heapq.heapify(self._heap)
        return oldest

    def next_due(self) -> float | None:
        """When the next one is due; None when none waits."""
        return self._heap[0].due if self._heap else None

    def take(self, now: float, *, shuffle: bool) -> Delivery | None:
        """The first one that is due, or None. With `shuffle` it changes places with another before that.

        Only those that have not been sent yet change places: a retry keeps its distance.
        """
        if not self._heap or self._heap[0].due > now:
            return None
        if shuffle and not self._heap[0].failures:
            self._swap_first()
        return heapq.heappop(self._heap)

    def _swap_first(self) -> None:
        """Exchange what the first one says for what another one says."""
        first = self._heap[0]
        fresh = [each for each in self._heap if not each.failures]
        other = fresh[self._pick(len(fresh))]
        first.event_id, other.event_id = other.event_id, first.event_id
        first.body, other.body = other.body, first.body
