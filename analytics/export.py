"""The daily metrics for other programs: as CSV, or as JSON, a line for each row."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Final

from django.db.models import QuerySet

from analytics.models import DailyMetric
from analytics.reads import money, ratio, still_open
from merchants import spreadsheets
from merchants.models import Merchant, Mode

#: Heading -> what stands below it.
COLUMNS: Final[dict[str, Callable[[DailyMetric], Any]]] = {
    "day": lambda row: row.day.isoformat(),
    "merchant": lambda row: row.merchant.slug if row.merchant else None,
    "mode": lambda row: row.mode,
    "currency": lambda row: row.currency or None,
    "gateway": lambda row: row.gateway or None,
    "accepted": lambda row: row.accepted,
    "succeeded": lambda row: row.succeeded,
    "failed": lambda row: row.failed,
    "canceled": lambda row: row.canceled,
    "open": still_open,
    "success_rate": lambda row: ratio(row.succeeded, row.succeeded + row.failed),
    "volume": lambda row: money(row.volume, row.currency),
    "refunded": lambda row: money(row.refunded, row.currency),
    "refunds": lambda row: row.refunds,
    "attempts": lambda row: row.attempts,
    "seconds_mean": lambda row: row.seconds_mean,
    "seconds_p50": lambda row: row.seconds_p50,
    "seconds_p95": lambda row: row.seconds_p95,
    "seconds_p99": lambda row: row.seconds_p99,
    "failure_reasons": lambda row: row.reasons,
}


def rows_of(*, first: date, last: date, merchant: Merchant | None, mode: Mode | None) -> QuerySet[DailyMetric]:
    """The rows of some days: of each merchant, currency and gateway, and no sums, which others can add up again."""
    found = DailyMetric.objects.select_related("merchant").filter(day__range=(first, last), merchant__isnull=False)
    found = found.exclude(currency="").exclude(gateway="")
    if merchant is not None:
        found = found.filter(merchant=merchant)
    if mode is not None:
        found = found.filter(mode=mode)
    return found.order_by("day", "merchant__slug", "mode", "currency", "gateway")


def as_csv(rows: QuerySet[DailyMetric]) -> Iterator[str]:
    """Lines of CSV, with a heading; read from the database a few at a time."""
    return spreadsheets.lines(COLUMNS, rows.iterator(chunk_size=spreadsheets.AT_ONCE))


def as_json(rows: QuerySet[DailyMetric]) -> Iterator[str]:
    """JSON objects, one in each line (https://jsonlines.org)."""
    for row in rows.iterator(chunk_size=spreadsheets.AT_ONCE):
        yield json.dumps({name: value(row) for name, value in COLUMNS.items()}, ensure_ascii=False) + "\n"
