"""A cache backend that can do what rate limits need, and nothing else: count, atomically, in PostgreSQL.

django-ratelimit begins to count with `add` and, where somebody else did, counts on with `incr`. Here `add` does both
in one statement, and `incr` tells what it came to: one round trip for each request and not two.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

from merchants.sharing import Sharing

#: A key that has expired counts from anew, in the same statement. `expires_at` keeps its value otherwise, so that the
#: index on it is not touched and the new version of the row fits beside the old one.
COUNT: Final = """
    INSERT INTO merchants_counter AS counter (key, count, expires_at)
    VALUES (%(key)s, %(count)s, clock_timestamp() + %(timeout)s * interval '1 second')
    ON CONFLICT (key) DO UPDATE SET
        count = CASE WHEN counter.expires_at > clock_timestamp() THEN counter.count ELSE 0 END + excluded.count,
        expires_at =
            CASE WHEN counter.expires_at > clock_timestamp() THEN counter.expires_at ELSE excluded.expires_at END
    RETURNING count
"""
PRUNE: Final = """
    DELETE FROM merchants_counter WHERE key IN (
        SELECT key FROM merchants_counter WHERE expires_at < %(before)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )
"""


#: What is counted: the key, by how much, and the seconds after which it begins anew.
Counted = tuple[str, int, float | None]


def count_together(asked: Sequence[Counted]) -> list[int]:
    """What each comes to, as if they had come one after the other; one statement for each key."""
    counts = [0] * len(asked)
    for each in set(asked):
        places = [place for place, other in enumerate(asked) if other == each]
        key, value, seconds = each
        total = count(key, value * len(places), seconds)
        for later, place in enumerate(reversed(places)):
            counts[place] = total - later * value
    return counts


def count(key: str, value: int, seconds: float | None) -> int:
    """What a key has come to."""
    with connection.cursor() as cursor:
        cursor.execute(COUNT, {"key": key, "count": value, "timeout": seconds})
        return int(cursor.fetchone()[0])


#: The requests of this process that are counted at the same time.
waiting: Final[Sharing[Counted, int]] = Sharing(count_together, lambda asked: count(*asked))


class PostgresCounters(BaseCache):
    """Counts in the table `merchants_counter`. Django makes one object for each thread."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self.counted: tuple[str, int] | None = None

    def add(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Count; True where this is the beginning. Else `incr` must follow, and only tells the count."""
        seconds = self.default_timeout if timeout in {DEFAULT_TIMEOUT, None} else timeout
        row_key = self.make_and_validate_key(key, version=version)
        count = waiting.ask((row_key, value, seconds))
        begun = bool(count == value)
        self.counted = None if begun else (row_key, count)
        return begun

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """What the `add` just before has counted.

        Raises:
            ValueError: nobody counts under this key, as Django's interface wants it.
        """
        counted, self.counted = self.counted, None
        if counted is None or counted[0] != self.make_and_validate_key(key, version=version):
            raise ValueError(key)
        return counted[1]

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The count."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count FROM merchants_counter WHERE key = %s AND expires_at > clock_timestamp()",
                [self.make_and_validate_key(key, version=version)],
            )
            row = cursor.fetchone()
        return default if row is None else int(row[0])


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of counters that had expired by then; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(PRUNE, {"before": before, "batch": batch})
        return int(cursor.rowcount)
