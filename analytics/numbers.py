"""What the payments of a stretch of days add up to: one statement, and nothing leaves PostgreSQL on the way.

A day's rows are a pure function of its payments as they are. So computing twice, or days that overlap, or while
payments arrive, ends in what a rebuild makes of them.
"""

from typing import Final

from django.db import connection

from analytics.stretches import Stretch
from analytics.time_zones import region_of

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
#: What tells the finest of them apart while payments are counted.
FINEST: Final = "number_of_day, merchant_id, kind"
#: The columns that are computed, in the order of the SELECT.
COMPUTED: Final = (
    *("accepted", "succeeded", "failed", "canceled", "volume", "refunded", "refunds", "attempts"),
    *("seconds_mean", "seconds_p50", "seconds_p95", "seconds_p99", "reasons"),
)
#: The nearest rank: the least time (s) within which so many of a hundred had ended.
PERCENTILE: Final = (
    "(min(milliseconds) FILTER (WHERE 100 * up_to_here >= {of} * in_all) / 1e3)::float8 AS seconds_p{of}"
)
#: The time zones of merchants that have payments.
ZONES: Final = """
    SELECT DISTINCT time_zone
    FROM merchants_merchant, LATERAL (SELECT FROM payments_payment WHERE merchant_id = merchants_merchant.id LIMIT 1)
"""
REGION: Final = region_of("time_zone")
#: Whose midnights a payment's day is told by. Where all merchants share a zone, no payment's merchant is looked up.
MIDNIGHTS_OF_ALL: Final = {
    "zones": "(SELECT %(zone)s::text AS time_zone)",
    "midnights": "(SELECT midnights FROM zone)",
    "calendar": "",
}
MIDNIGHTS_OF_EACH: Final = {
    "zones": f"({ZONES})",
    "midnights": "midnights",
    "calendar": """
            JOIN (
                SELECT id AS merchant_id, midnights, begins, ends FROM merchants_merchant JOIN zone USING (time_zone)
            ) AS calendar ON calendar.merchant_id = payment.merchant_id AND created_at >= begins AND created_at < ends
    """,
}
#: Payments are read once, and told apart by no more than what is asked of them: what is alike is counted together, of
#: times to the millisecond. All groups are put together of those counts, their percentiles as well.
UPSERT: Final = f"""
    WITH zone AS MATERIALIZED (
        -- A payment is of the day whose midnight it follows: that is much less work than its local time.
        SELECT time_zone, array_agg(midnight ORDER BY day) AS midnights, min(midnight) AS begins, max(midnight) AS ends
        FROM {{zones}} AS used,
            generate_series(%(first)s::timestamp, %(last)s::timestamp + interval '1 day', interval '1 day') AS day,
            LATERAL (
                -- The first, where clocks are set back over midnight.
                SELECT min(moment) AS midnight
                FROM generate_series(-12, 0) AS quarter,
                    LATERAL (SELECT day AT TIME ZONE {REGION} + quarter * interval '15 minutes' AS moment) AS near
                WHERE quarter = 0 OR moment AT TIME ZONE {REGION} >= day
            ) AS first
        GROUP BY time_zone
    ), payment AS NOT MATERIALIZED (
        SELECT payment.*, width_bucket(created_at, {{midnights}}) AS number_of_day,
            -- Four letters, three, and a name: one text is told apart with less work than three.
            mode || currency || gateway AS kind
        FROM payments_payment AS payment {{calendar}}
        WHERE created_at >= (SELECT min(begins) FROM zone) AND created_at < (SELECT max(ends) FROM zone)
    ), alike AS MATERIALIZED (
        SELECT {FINEST}, became, (1e3 * date_part('epoch', took))::bigint AS milliseconds,
            count(*)::int AS payments, sum(amount_captured) AS volume, sum(charge_attempts) AS attempts
        FROM (
            SELECT payment.*, date_bin('1 millisecond', finished_at, created_at) - created_at AS took,
                CASE
                    -- Paid late, after it had failed: the money is there, and that is what counts.
                    WHEN amount_captured > 0 THEN 'succeeded'
                    WHEN status = 'failed'
                        THEN 'failed:' || coalesce(nullif(decline_code, ''), nullif(error_code, ''), 'unknown')
                    ELSE status
                END AS became
            FROM payment
        ) AS payment
        GROUP BY {FINEST}, became, took
    ), given_back AS (
        -- By an index of those few. To ask it of each payment would be a tenth of all work.
        SELECT {FINEST}, sum(amount_refunded) AS refunded, count(*) AS refunds
        FROM payment WHERE amount_refunded > 0 GROUP BY {FINEST}
    ), cell AS MATERIALIZED (
        SELECT counted.*, row_number() OVER () AS cell, %(first)s::date + number_of_day - 1 AS day,
            left(kind, 4) AS mode, substr(kind, 5, 3) AS currency, substr(kind, 8) AS gateway,
            coalesce(refunded, 0) AS refunded, coalesce(refunds, 0) AS refunds
        FROM (
            SELECT {FINEST},
                sum(payments) AS accepted,
                sum(payments) FILTER (WHERE became = 'succeeded') AS succeeded,
                sum(payments) FILTER (WHERE became LIKE 'failed:%%') AS failed,
                sum(payments) FILTER (WHERE became = 'canceled') AS canceled,
                sum(payments) FILTER (WHERE milliseconds IS NOT NULL) AS finished,
                sum(volume) AS volume, sum(attempts) AS attempts, sum(payments * milliseconds) AS milliseconds
            FROM alike GROUP BY {FINEST}
        ) AS counted
        LEFT JOIN given_back USING ({FINEST})
    ), numbers AS MATERIALIZED (
        -- What is made of the same cells has the same times and reasons, and so the same number.
        SELECT array_agg(cell ORDER BY cell) AS cells,
            dense_rank() OVER (ORDER BY array_agg(cell ORDER BY cell)) AS number,
            day, merchant_id, mode, coalesce(currency, '') AS currency, coalesce(gateway, '') AS gateway,
            sum(accepted)::bigint AS accepted, coalesce(sum(succeeded), 0)::bigint AS succeeded,
            coalesce(sum(failed), 0)::bigint AS failed, coalesce(sum(canceled), 0)::bigint AS canceled,
            CASE WHEN grouping(currency) = 0 THEN sum(volume)::bigint END AS volume,
            CASE WHEN grouping(currency) = 0 THEN sum(refunded)::bigint END AS refunded,
            sum(refunds)::bigint AS refunds, sum(attempts)::bigint AS attempts,
            (sum(milliseconds) / sum(finished) / 1e3)::float8 AS seconds_mean
        FROM cell GROUP BY GROUPING SETS ({", ".join(f"({group})" for group in GROUPS)})
    ), member AS MATERIALIZED (
        SELECT number, became, alike.milliseconds, payments
        FROM (SELECT number, unnest(cells) AS cell FROM (SELECT DISTINCT number, cells FROM numbers)) AS part
        JOIN cell USING (cell)
        JOIN alike USING ({FINEST})
    ), reached AS (
        SELECT number, milliseconds,
            sum(sum(payments)::int) OVER (
                PARTITION BY number ORDER BY milliseconds ROWS UNBOUNDED PRECEDING
            ) AS up_to_here,
            sum(sum(payments)::int) OVER (PARTITION BY number) AS in_all
        FROM member WHERE milliseconds IS NOT NULL GROUP BY number, milliseconds
    ), times AS (
        SELECT number, {", ".join(PERCENTILE.format(of=of) for of in (50, 95, 99))} FROM reached GROUP BY number
    ), why AS (
        SELECT number, jsonb_object_agg(reason, times) AS reasons
        FROM (
            SELECT number, substr(became, 8) AS reason, sum(payments) AS times
            FROM member WHERE became LIKE 'failed:%%' GROUP BY number, became
        ) AS counted
        GROUP BY number
    ), computed AS (
        SELECT numbers.*, seconds_p50, seconds_p95, seconds_p99, coalesce(why.reasons, jsonb_build_object()) AS reasons
        FROM numbers LEFT JOIN times USING (number) LEFT JOIN why USING (number)
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
            SELECT FROM numbers
            WHERE stored.day = numbers.day AND stored.mode = numbers.mode
                AND coalesce(stored.merchant_id::text, '') = coalesce(numbers.merchant_id::text, '')
                AND stored.currency = numbers.currency AND stored.gateway = numbers.gateway
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM gone)
"""  # noqa: S608  # names of our own columns only  # nosec B608


#: PostgreSQL cannot know how many payments are of those days, nor how many are alike: expecting few, it would sort all
#: payments, and compare each kind with each group. JIT costs more than it saves here.
SETTINGS: Final = """
    SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan;
    SET LOCAL enable_sort = off; SET LOCAL enable_nestloop = off;
"""


def compute(stretch: Stretch) -> int:
    """Compute the days of one stretch in one statement; returns how many rows that changed."""
    assert connection.in_atomic_block, "the memory that it may use is set for the transaction"
    with connection.cursor() as cursor:
        cursor.execute(ZONES)
        zones = [zone for (zone,) in cursor.fetchall()]
        cursor.execute(SETTINGS)
        values = {"first": stretch.first, "last": stretch.last, "zone": next(iter(zones), None)}
        cursor.execute(upsert(zones), values)
        return int(cursor.fetchone()[0])


def upsert(zones: list[str]) -> str:
    """The statement for merchants of these time zones."""
    return UPSERT.format(**MIDNIGHTS_OF_ALL if len(zones) == 1 else MIDNIGHTS_OF_EACH)
