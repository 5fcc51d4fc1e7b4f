"""How many payments a merchant may ask for: a token bucket, shared by all processes.

The generic cell rate algorithm (ITU-T I.371, annex A) keeps of a bucket only the time at which it will be full again:
each token taken puts it off by one interval, and a bucket that would be full later than an empty one has no token.

One that is to be full much later than an empty one was written under other figures, or by a clock that has been set
back since. It counts as empty but for one token, or it would keep its merchant waiting by what holds no more.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection

from merchants import redis_buckets
from merchants.fuse import WITHOUT_COUNTER, redis_fuse
from merchants.local_buckets import local_buckets
from merchants.models import Merchant, Mode

TAKE: Final = """
    INSERT INTO merchants_bucket AS bucket (key, full_at)
    VALUES (%(key)s, clock_timestamp() + %(interval)s * interval '1 microsecond')
    ON CONFLICT (key) DO UPDATE
    SET full_at = least(
        greatest(bucket.full_at, clock_timestamp()) + %(interval)s * interval '1 microsecond',
        clock_timestamp() + %(whole)s * interval '1 microsecond'
    )
    WHERE greatest(bucket.full_at, clock_timestamp()) + %(interval)s * interval '1 microsecond'
            <= clock_timestamp() + %(whole)s * interval '1 microsecond'
        OR bucket.full_at > clock_timestamp() + %(whole)s * interval '1 microsecond' + interval '1 second'
    RETURNING extract(epoch FROM full_at - clock_timestamp())
"""
LOOK: Final = "SELECT extract(epoch FROM full_at - clock_timestamp()) FROM merchants_bucket WHERE key = %s"
GIVE_BACK: Final = """
    UPDATE merchants_bucket SET full_at = full_at - %(interval)s * interval '1 microsecond' WHERE key = %(key)s
"""
PRUNE: Final = """
    DELETE FROM merchants_bucket WHERE key IN (
        SELECT key FROM merchants_bucket WHERE full_at < %(before)s LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What the bucket said. Times are in seconds; `interval` is what one token takes to come back, in microseconds."""

    key: str
    granted: bool
    burst: int
    interval: int
    until_full: float
    local: bool = False

    @property
    def remaining(self) -> int:
        """How many more could be taken at once."""
        return max(0, self.burst - math.ceil(self.until_full * 1e6 / self.interval - 1e-6))

    @property
    def retry_after(self) -> int:
        """Whole seconds until there is a token again; at least 1."""
        return max(1, math.ceil(self.until_full - (self.burst - 1) * self.interval / 1e6))

    @property
    def fills_in(self) -> int:
        """Whole seconds that an empty bucket takes to fill; at least 1."""
        return max(1, math.ceil(self.burst * self.interval / 1e6))


def take(merchant: Merchant, mode: Mode) -> Ticket:
    """Ask for one token. Outside of a transaction: the row is everybody's.

    While Redis does not answer, each process has a bucket of its own.
    """
    burst = merchant.creation_burst or settings.CREATION_BURST
    interval = max(1, round(1e6 / (merchant.creation_rate or settings.CREATION_RATE)))
    key = f"{merchant.pk}:{mode.value}"
    taken, local = take_shared(key, burst=burst, interval=interval), False
    if taken is None:
        taken, local = local_buckets.take(key, burst=burst, interval=interval / 1e6), True
    granted, until_full = taken
    return Ticket(key=key, granted=granted, burst=burst, interval=interval, until_full=until_full, local=local)


def take_shared(key: str, *, burst: int, interval: int) -> tuple[bool, float] | None:
    """From the bucket of all processes; None where nobody can tell."""
    if not redis_buckets.url():
        return take_from_postgres(key, burst=burst, interval=interval)
    taken = redis_fuse.ask(lambda: redis_buckets.take(key, burst=burst, interval=interval))
    if taken is None:
        WITHOUT_COUNTER.labels("creation").inc()
    return taken


def take_from_postgres(key: str, *, burst: int, interval: int) -> tuple[bool, float]:
    """One statement where there is a token, two where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE, {"key": key, "interval": interval, "whole": burst * interval})
        if row := cursor.fetchone():
            return True, float(row[0])
        cursor.execute(LOOK, [key])
        row = cursor.fetchone()
    return False, float(row[0]) if row else burst * interval / 1e6


def give_back(ticket: Ticket) -> None:
    """Return a token that was not needed; one that cannot be returned comes back by itself soon."""
    if ticket.local:
        local_buckets.give_back(ticket.key, interval=ticket.interval / 1e6)
    elif not redis_buckets.url():
        with connection.cursor() as cursor:
            cursor.execute(GIVE_BACK, {"key": ticket.key, "interval": ticket.interval})
    else:
        redis_fuse.ask(lambda: redis_buckets.give_back(ticket.key, interval=ticket.interval))


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of buckets that were full by then, which are like none; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(PRUNE, {"before": before, "batch": batch})
        return int(cursor.rowcount)
