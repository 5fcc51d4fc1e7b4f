"""Computes the daily metrics: one statement for each stretch of days, and nothing leaves PostgreSQL on the way.

A day's rows are a pure function of its payments as they are. So computing twice, or days that overlap, or while
payments arrive, ends in what a rebuild makes of them.
"""

import time as clock
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.utils import timezone

from analytics.models import MetricsRun

log = structlog.get_logger(__name__)

#: One run at a time: a number of our own among PostgreSQL's advisory locks ("metrics" in ASCII).
LOCK: Final = 0x6D657472696373
#: Days computed by one statement and commit: what a rebuild holds in memory, and how often its bar moves.
STRETCH: Final = 31
#: How far apart the commit of an event and its time may lie, with some room for clocks that differ. A payment's
#: transactions last milliseconds; `idle_in_transaction_session_timeout` ends those that hang after 30 s.
OVERLAP: Final = timedelta(minutes=10)
#: How long the record of a run is kept.
RUNS_KEPT_FOR: Final = timedelta(days=90)
#: How often (s) a run that waits for another one looks whether that has ended.
PAUSE: Final = 0.2
#: Older than any payment; and from here on, what is hours or a range before a day is a day as well.
FIRST_DAY: Final = date(2000, 1, 1)
#: Where on earth a day begins first, and ends last, against UTC.
EARLIEST: Final = timedelta(hours=14)
LATEST: Final = timedelta(hours=12)


class Busy(Exception):
    """Another run is under way; nothing was done."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days next to each other, both ends included."""

    first: date
    last: date


@contextmanager
def alone(*, patience: float = 0) -> Iterator[None]:
    """Be the only run, perhaps after so many seconds; the lock goes with the connection, should this process die.

    Raises:
        Busy: another one is.
    """
    until = clock.monotonic() + patience
    # Not by waiting for the lock itself: `lock_timeout` ends that after a moment.
    while not is_ours():
        if clock.monotonic() >= until:
            raise Busy
        clock.sleep(PAUSE)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def is_ours() -> bool:
    """Whether we got the lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


# --- which days

TOUCHED: Final = """
    SELECT DISTINCT (payment.created_at AT TIME ZONE merchant.time_zone)::date
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
"""
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


def forget_runs() -> None:
    """Have the next run compute all days: payments were written with times of the past."""
    MetricsRun.objects.all().delete()


# --- their numbers

#: The groups: one gateway or all, one currency or all, one merchant or all.
GROUPS: Final = (
    "day, merchant_id, mode, currency, gateway",
    "day, merchant_id, mode, currency",
    "day, merchant_id, mode, gateway",
    "day, merchant_id, mode",
    "day, mode, currency, gateway",
    "day, mode, currency",
    "day, mode, gateway",
    "day, mode",
)
FINEST: Final = GROUPS[0]
#: Whether two rows are of the same group.
SAME: Final = """
    {0}.day = numbers.day AND {0}.mode = numbers.mode
    AND coalesce({0}.merchant_id::text, '') = coalesce(numbers.merchant_id::text, '')
    AND {0}.currency = numbers.currency AND {0}.gateway = numbers.gateway
"""
#: A payment as one of a group, and whether the group has its currency and gateway.
MEMBER: Final = "day, numbers.merchant_id, mode, numbers.currency, numbers.gateway, micros"
COVERS: Final = "numbers.currency IN ('', payment.currency) AND numbers.gateway IN ('', payment.gateway)"
#: The columns that are computed, in the order of the SELECT.
COMPUTED: Final = (
    *("accepted", "succeeded", "failed", "canceled", "volume", "refunded", "refunds", "attempts"),
    *("seconds_mean", "seconds_p50", "seconds_p95", "seconds_p99", "reasons"),
)
#: Payments are sorted once, into cells, of which the groups are put together. A group that is one cell, as are mostly
#: those of a merchant with one currency and one gateway, has the cell's percentiles. Of others they cannot be told from
#: the cells', and the payments are sorted again.
UPSERT: Final = f"""
    WITH payment AS MATERIALIZED (
        SELECT day, merchant_id, mode, currency, gateway, amount_captured, amount_refunded, charge_attempts,
            -- Whole microseconds: the sum of fractions would depend on their order.
            (1e6::float8 * date_part('epoch', finished_at - created_at))::bigint AS micros,
            -- Paid late, after it had failed: the money is there, and that is what counts.
            CASE WHEN amount_captured > 0 THEN 'succeeded' ELSE status END AS became,
            CASE WHEN status = 'failed' AND amount_captured = 0
                THEN coalesce(nullif(decline_code, ''), nullif(error_code, ''), 'unknown') END AS reason
        FROM (
            -- Behind OFFSET 0 the day is told once for each.
            SELECT payment.*, (created_at AT TIME ZONE time_zone)::date AS day
            FROM payments_payment AS payment
            JOIN (SELECT id, time_zone FROM merchants_merchant) AS merchant ON merchant.id = merchant_id
            WHERE created_at >= %(begins)s AND created_at < %(ends)s
            OFFSET 0
        ) AS payment
        WHERE day BETWEEN %(first)s AND %(last)s
    ), cell AS MATERIALIZED (
        SELECT {FINEST},
            count(*) AS accepted,
            count(*) FILTER (WHERE became = 'succeeded') AS succeeded,
            count(*) FILTER (WHERE became = 'failed') AS failed,
            count(*) FILTER (WHERE became = 'canceled') AS canceled,
            sum(amount_captured) AS volume,
            sum(amount_refunded) AS refunded,
            count(*) FILTER (WHERE amount_refunded > 0) AS refunds,
            sum(charge_attempts) AS attempts,
            count(micros) AS finished,
            sum(micros) AS micros,
            percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY micros) AS percentiles
        FROM payment GROUP BY {FINEST}
    ), numbers AS MATERIALIZED (
        SELECT day, merchant_id, mode, coalesce(currency, '') AS currency, coalesce(gateway, '') AS gateway,
            sum(accepted)::bigint AS accepted, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
            sum(canceled)::bigint AS canceled,
            CASE WHEN grouping(currency) = 0 THEN sum(volume)::bigint END AS volume,
            CASE WHEN grouping(currency) = 0 THEN sum(refunded)::bigint END AS refunded,
            sum(refunds)::bigint AS refunds, sum(attempts)::bigint AS attempts,
            (sum(micros) / nullif(sum(finished), 0) / 1e6)::float8 AS seconds_mean,
            count(*) AS cells, min(percentiles) AS percentiles
        FROM cell GROUP BY GROUPING SETS ({", ".join(f"({group})" for group in GROUPS)})
    ), mixed AS (
        SELECT day, merchant_id, mode, currency, gateway,
            percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY micros) AS percentiles
        FROM (
            SELECT {MEMBER} FROM numbers
            JOIN payment USING (day, mode, merchant_id) WHERE cells > 1 AND {COVERS}
            UNION ALL
            SELECT {MEMBER} FROM numbers
            JOIN payment USING (day, mode) WHERE cells > 1 AND numbers.merchant_id IS NULL AND {COVERS}
        ) AS member
        GROUP BY day, merchant_id, mode, currency, gateway
    ), reasons AS (
        SELECT {FINEST}, reason, count(*) AS times FROM payment WHERE reason IS NOT NULL GROUP BY {FINEST}, reason
    ), counted AS (
        SELECT day, merchant_id, mode, coalesce(currency, '') AS currency, coalesce(gateway, '') AS gateway,
            reason, sum(times)::bigint AS times
        FROM reasons GROUP BY GROUPING SETS ({", ".join(f"({group}, reason)" for group in GROUPS)})
    ), why AS (
        SELECT day, merchant_id, mode, currency, gateway, jsonb_object_agg(reason, times) AS reasons
        FROM counted GROUP BY day, merchant_id, mode, currency, gateway
    ), computed AS (
        SELECT numbers.day, numbers.merchant_id, numbers.mode, numbers.currency, numbers.gateway,
            accepted, succeeded, failed, canceled, volume, refunded, refunds, attempts, seconds_mean,
            known.percentiles[1] / 1e6 AS seconds_p50, known.percentiles[2] / 1e6 AS seconds_p95,
            known.percentiles[3] / 1e6 AS seconds_p99,
            coalesce(reasons, '{{}}') AS reasons
        FROM numbers
        LEFT JOIN mixed ON {SAME.format("mixed")}
        LEFT JOIN why ON {SAME.format("why")},
        LATERAL (SELECT CASE WHEN cells = 1 THEN numbers.percentiles ELSE mixed.percentiles END) AS known (percentiles)
    ), written AS (
        INSERT INTO analytics_dailymetric AS stored
            (day, merchant_id, mode, currency, gateway, {", ".join(COMPUTED)})
        SELECT day, merchant_id, mode, currency, gateway, {", ".join(COMPUTED)} FROM computed
        ON CONFLICT (day, merchant_id, mode, currency, gateway) DO UPDATE SET
            computed_at = excluded.computed_at, {", ".join(f"{name} = excluded.{name}" for name in COMPUTED)}
        WHERE ({", ".join(f"stored.{name}" for name in COMPUTED)})
            IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in COMPUTED)})
        RETURNING 1
    ), gone AS (
        -- Payments are never deleted; but a merchant that moves to another time zone moves them to other days.
        DELETE FROM analytics_dailymetric AS stored
        WHERE day BETWEEN %(first)s AND %(last)s AND NOT EXISTS (
            SELECT FROM numbers WHERE {SAME.format("stored")}
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM gone)
"""  # noqa: S608  # names of our own columns only  # nosec B608


def compute(stretch: Stretch) -> int:
    """Compute the days of one stretch in one statement; returns how many rows that changed."""
    assert connection.in_atomic_block, "the memory that it may use is set for the transaction"
    midnight = datetime.combine(stretch.first, time(), UTC), datetime.combine(stretch.last, time(), UTC)
    values: dict[str, Any] = {
        "first": stretch.first,
        "last": stretch.last,
        "begins": midnight[0] - EARLIEST,
        "ends": midnight[1] + timedelta(days=1) + LATEST,
    }
    with connection.cursor() as cursor:
        # Sorting a month of payments in memory is twice as fast as on disk. JIT costs more than it saves here.
        cursor.execute("SET LOCAL work_mem = '64MB'; SET LOCAL jit = off")
        cursor.execute(UPSERT, values)
        return int(cursor.fetchone()[0])


def compute_and_keep(stretch: Stretch, *, dry_run: bool) -> int:
    """Compute one stretch, and with `dry_run` undo it."""
    with transaction.atomic(durable=True):
        changed = compute(stretch)
        transaction.set_rollback(dry_run)
    return changed


def remember(stretches: list[Stretch], *, rows: int, rebuild: bool, started_at: datetime) -> MetricsRun:
    """Record a run that has seen everything that was committed before it began."""
    return MetricsRun.objects.create(
        first_day=min((stretch.first for stretch in stretches), default=None),
        last_day=max((stretch.last for stretch in stretches), default=None),
        rebuild=rebuild,
        rows=rows,
        seen_up_to=started_at,
        started_at=started_at,
        finished_at=timezone.now(),
    )


def note(stretches: list[Stretch], *, rows: int, **how: bool) -> None:
    """Say in the log what was computed."""
    days = [str(day) for stretch in stretches for day in (stretch.first, stretch.last)]
    log.info("daily_metrics_computed", first=min(days, default=None), last=max(days, default=None), rows=rows, **how)


def today_somewhere() -> date:
    """The latest day that has begun anywhere on earth."""
    return (timezone.now() + EARLIEST).date()


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of runs from before a time, but never the latest: the next one begins where it ended."""
    latest = MetricsRun.objects.order_by("-id").values("pk")[:1]
    old = MetricsRun.objects.filter(finished_at__lt=before).exclude(pk__in=latest).order_by("id").values("pk")[:batch]
    return MetricsRun.objects.filter(pk__in=old).delete()[0]
