"""Which days are to be computed: in stretches, each the work of one statement."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import connection
from django.utils import timezone

from analytics.models import MetricsRun
from analytics.time_zones import region_of

#: Days computed by one statement and commit: few enough to be shared out among several, and to show how far it is.
STRETCH: Final = 8
#: How far apart the commit of an event and its time may lie, with some room for clocks that differ. A payment's
#: transactions last milliseconds; `idle_in_transaction_session_timeout` ends those that hang after 30 s.
OVERLAP: Final = timedelta(minutes=10)
#: Older than any payment; and from here on, what is hours or a range before a day is a day as well.
FIRST_DAY: Final = date(2000, 1, 1)
#: Where on earth a day begins first, before UTC.
EARLIEST: Final = timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days next to each other, both ends included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many."""
        return (self.last - self.first).days + 1


TOUCHED: Final = f"""
    SELECT DISTINCT (payment.created_at AT TIME ZONE {region_of("merchant.time_zone")})::date
    FROM (
        SELECT payment_id AS id FROM payments_paymentevent WHERE id >= %(first_id)s
        UNION
        -- Sent once more, which is no event: the attempts count. Only payments in work are in this index.
        SELECT id FROM payments_payment AS payment
        WHERE revive_at IS NOT NULL AND charge_attempts > 1 AND EXISTS (
            SELECT FROM payments_attempt WHERE payment_id = payment.id AND started_at >= %(since)s
        )
    ) AS touched
    JOIN payments_payment AS payment USING (id)
    JOIN merchants_merchant AS merchant ON merchant.id = payment.merchant_id
    ORDER BY 1
"""  # noqa: S608  # a column's name of our own  # nosec B608
MOVED: Final = """
    SELECT EXISTS (
        SELECT FROM merchants_merchant AS merchant
        JOIN merchants_auditentry AS entry ON entry.subject = 'merchant:' || merchant.id
        WHERE entry.at >= %s AND entry.before ? 'time_zone'
    )
"""
EXTENT: Final = """
    SELECT least(min(day), (SELECT min(created_at)::date - 1 FROM payments_payment)),
           greatest(max(day), (SELECT max(created_at)::date + 1 FROM payments_payment))
    FROM analytics_dailymetric
"""


def touched_since(seen_up_to: datetime) -> list[date]:
    """The days of all payments to which anything happened since a time."""
    since = seen_up_to - OVERLAP
    with connection.cursor() as cursor:
        cursor.execute(TOUCHED, {"first_id": first_id_at(since), "since": since})
        return [day for (day,) in cursor.fetchall()]


def has_moved_since(seen_up_to: datetime) -> bool:
    """Whether a merchant was given another time zone, and so all of its payments other days."""
    with connection.cursor() as cursor:
        cursor.execute(MOVED, [seen_up_to - OVERLAP])
        return bool(cursor.fetchone()[0])


def first_id_at(moment: datetime) -> UUID:
    """The smallest of the time-ordered ids of a moment (RFC 9562, section 5.7)."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80)


def all_days() -> list[Stretch]:
    """From the first payment, or row, to the last."""
    with connection.cursor() as cursor:
        cursor.execute(EXTENT)
        first, last = cursor.fetchone()
    return [] if first is None else cut(first, last)


def cut(first: date, last: date) -> list[Stretch]:
    """A range of days, in stretches that one statement computes."""
    starts = range(0, (last - first).days + 1, STRETCH)
    return [
        Stretch(first + timedelta(days=start), min(last, first + timedelta(days=start + STRETCH - 1)))
        for start in starts
    ]


def joined(days: Iterable[date]) -> list[Stretch]:
    """Single days, those next to each other joined: a payment of last winter must not cost all days since."""
    stretches: list[Stretch] = []
    for day in sorted(set(days)):
        last = stretches[-1] if stretches else None
        if last and day - last.last == timedelta(days=1) and (day - last.first).days < STRETCH:
            stretches[-1] = Stretch(last.first, day)
        else:
            stretches.append(Stretch(day, day))
    return stretches


def since_last_run() -> list[Stretch]:
    """What the latest run cannot have seen; all days where there was none."""
    latest = MetricsRun.objects.order_by("-id").values_list("seen_up_to", flat=True).first()
    return all_days() if latest is None or has_moved_since(latest) else joined(touched_since(latest))


def find_today(time_zone: str) -> date:
    """Return the day that it is now in a time zone; in UTC if Python does not know it."""
    try:
        zone: tzinfo = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = UTC
    return timezone.now().astimezone(zone).date()


def today_somewhere() -> date:
    """The latest day that has begun anywhere on earth."""
    return (timezone.now() + EARLIEST).date()
