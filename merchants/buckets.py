"""How many payments a merchant may ask for: a token bucket, shared by all processes.

The generic cell rate algorithm (ITU-T I.371, annex A) keeps of a bucket only the time at which it will be full again:
each token taken puts it off by one interval, and a bucket that would be full later than an empty one has no token.

One that is to be full much later than an empty one was written under other figures, or by a clock that has been set
back since. It counts as empty but for one token, or it would keep its merchant waiting by what holds no more.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog
from django.conf import settings
from django.db import Error, connection

from merchants import redis_buckets
from merchants.fuse import WITHOUT_COUNTER, redis_fuse
from merchants.local_buckets import local_buckets
from merchants.models import Merchant, Mode
from merchants.sharing import Sharing

log = structlog.get_logger(__name__)

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
#: Many at once, or none. A bucket that is full much later than an empty one is looked at token by token.
TAKE_MANY: Final = """
    INSERT INTO merchants_bucket AS bucket (key, full_at)
    VALUES (%(key)s, clock_timestamp() + %(taken)s * interval '1 microsecond')
    ON CONFLICT (key) DO UPDATE
    SET full_at = greatest(bucket.full_at, clock_timestamp()) + %(taken)s * interval '1 microsecond'
    WHERE greatest(bucket.full_at, clock_timestamp()) + %(taken)s * interval '1 microsecond'
            <= clock_timestamp() + %(whole)s * interval '1 microsecond'
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


#: A bucket: its key, how many tokens it holds, and the interval (microseconds) after which one comes back.
Asked = tuple[str, int, int]
#: Whether there was a token, and how long (s) until the bucket is full; None where nobody can tell.
Taken = tuple[tuple[bool, float] | None]


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
    key, burst, interval = bucket = bucket_of(merchant, mode)
    (taken,), local = waiting.ask(bucket), False
    if taken is None:
        WITHOUT_COUNTER.labels("creation").inc()
        taken, local = local_buckets.take(key, burst=burst, interval=interval / 1e6), True
    granted, until_full = taken
    return Ticket(key=key, granted=granted, burst=burst, interval=interval, until_full=until_full, local=local)


def bucket_of(merchant: Merchant, mode: Mode) -> Asked:
    """By the merchant's own figures, or everybody's."""
    burst = merchant.creation_burst or settings.CREATION_BURST
    interval = max(1, round(1e6 / (merchant.creation_rate or settings.CREATION_RATE)))
    return f"{merchant.pk}:{mode.value}", burst, interval


def take_for_each(whose: Sequence[tuple[Merchant, Mode]]) -> list[Ticket | None]:
    """One token for each, by one question for each bucket; None for those of one that has not enough for all of them.

    Outside of a transaction.
    """
    asked = [bucket_of(merchant, mode) for merchant, mode in whose]
    answers = take_together(asked)
    return [ticket_of(bucket, answer) for bucket, answer in zip(asked, answers, strict=True)]


def ticket_of(bucket: Asked, answer: Taken | None) -> Ticket | None:
    """What was taken of the bucket that all processes share, if anything was."""
    taken = answer[0] if answer else None
    if taken is None or not taken[0]:
        return None
    key, burst, interval = bucket
    return Ticket(key=key, granted=True, burst=burst, interval=interval, until_full=taken[1])


def take_all(merchant: Merchant, mode: Mode, number: int) -> list[Ticket]:
    """Ask for that many tokens: the first get them, as far as they reach. Outside of a transaction."""
    tickets: list[Ticket] = []
    while len(tickets) < number:
        tickets.append(take(merchant, mode))
        if not tickets[-1].granted:
            return tickets + tickets[-1:] * (number - len(tickets))
        tickets += take_more(tickets[-1], number - len(tickets))
    return tickets


def take_more(first: Ticket, number: int) -> list[Ticket]:
    """So many more of a bucket, or as many as it had left, by one question; none if others were faster."""
    number = min(number, first.remaining)
    if first.local or not number:
        return []
    answers = take_many((first.key, first.burst, first.interval), number)
    taken = [answer[0] for answer in answers if answer is not None]
    return [replace(first, until_full=each[1]) for each in taken if each is not None and each[0]]


def take_together(asked: Sequence[Asked]) -> list[Taken | None]:
    """What each gets, by one question for each bucket; None for those of one that has not enough for all of them."""
    answers: list[Taken | None] = [None] * len(asked)
    for bucket in set(asked):
        places = [place for place, each in enumerate(asked) if each == bucket]
        for place, answer in zip(places, take_many(bucket, len(places)), strict=True):
            answers[place] = answer
    return answers


def take_many(bucket: Asked, number: int) -> Sequence[Taken | None]:
    """That many tokens of one bucket; the last to get one finds it the emptiest."""
    if number == 1:
        return [take_alone(bucket)]
    key, burst, interval = bucket
    taken = take_shared(key, burst=burst, interval=interval, number=number) if number <= burst else (False, 0.0)
    if taken is None or not taken[0]:
        return [None] * number
    return [((True, taken[1] - later * interval / 1e6),) for later in reversed(range(number))]


def take_alone(bucket: Asked) -> Taken:
    """One token, of a bucket that all processes share."""
    key, burst, interval = bucket
    return (take_shared(key, burst=burst, interval=interval),)


#: The requests of this process that ask for a token at the same time.
waiting: Final[Sharing[Asked, Taken]] = Sharing(take_together, take_alone)


def take_shared(key: str, *, burst: int, interval: int, number: int = 1) -> tuple[bool, float] | None:
    """A token from the bucket of all processes, or so many or none; None where nobody can tell."""
    if not redis_buckets.url():
        if number > 1:
            return take_many_from_postgres(key, taken=number * interval, whole=burst * interval)
        return take_from_postgres(key, burst=burst, interval=interval)
    return redis_fuse.ask(lambda: redis_buckets.take(key, burst=burst, interval=interval, number=number))


def take_from_postgres(key: str, *, burst: int, interval: int) -> tuple[bool, float]:
    """One statement where there is a token, two where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE, {"key": key, "interval": interval, "whole": burst * interval})
        if row := cursor.fetchone():
            return True, float(row[0])
        cursor.execute(LOOK, [key])
        row = cursor.fetchone()
    return False, float(row[0]) if row else burst * interval / 1e6


def take_many_from_postgres(key: str, *, taken: int, whole: int) -> tuple[bool, float]:
    """One statement."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE_MANY, {"key": key, "taken": taken, "whole": whole})
        row = cursor.fetchone()
    return (True, float(row[0])) if row else (False, 0.0)


def give_back_all(tickets: Iterable[Ticket]) -> None:
    """Return tokens that were not needed, by one question for each bucket."""
    granted = [ticket for ticket in tickets if ticket.granted]
    for bucket in {(ticket.key, ticket.local) for ticket in granted}:
        same = [ticket for ticket in granted if (ticket.key, ticket.local) == bucket]
        give_back(same[0], number=len(same))


def give_back(ticket: Ticket, *, number: int = 1) -> None:
    """Return a token that was not needed, or so many.

    What cannot be returned comes back by itself soon, and hides no payment that was made meanwhile.
    """
    returned = number * ticket.interval
    if ticket.local:
        local_buckets.give_back(ticket.key, interval=returned / 1e6)
    elif not redis_buckets.url():
        give_back_to_postgres(ticket.key, returned)
    else:
        redis_fuse.ask(lambda: redis_buckets.give_back(ticket.key, interval=returned))


def give_back_to_postgres(key: str, returned: int) -> None:
    """One statement. Its failure is nobody's, but that of a transaction which it would end."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(GIVE_BACK, {"key": key, "interval": returned})
    except Error as error:
        if connection.in_atomic_block:
            raise
        log.warning("token_not_returned", bucket=key, error=type(error.__cause__ or error).__name__)


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of buckets that were full by then, which are like none; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(PRUNE, {"before": before, "batch": batch})
        return int(cursor.rowcount)
