"""What the payments of a stretch of days add up to: one statement, and nothing leaves PostgreSQL on the way.

A day's rows are a pure function of its payments as they are. So computing twice, or days that overlap, or while
payments arrive, ends in what a rebuild makes of them.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django.db import connection

from analytics.stretches import EARLIEST, LATEST, Stretch

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
