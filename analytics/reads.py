"""What dashboards and the API ask about daily metrics: by range, and grouped by currency, gateway, both or neither."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

from django.db.models import QuerySet

from analytics.models import DailyMetric
from merchants.models import Merchant, Mode
from payments.money import to_major_units


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which rows; `merchant` None means the sums of all merchants, for platform staff."""

    merchant: Merchant | None
    mode: Mode
    first: date
    last: date
    by_currency: bool = True
    by_gateway: bool = False
    currency: str = ""
    gateway: str = ""

    @property
    def days(self) -> int:
        """How many days it is about."""
        return (self.last - self.first).days + 1

    def before(self) -> "Question":
        """The same about as many days right before these."""
        span = timedelta(days=self.days)
        return replace(self, first=self.first - span, last=self.last - span)


def rows_for(question: Question) -> QuerySet[DailyMetric]:
    """The stored rows, by day, currency and gateway."""
    found = DailyMetric.objects.filter(
        merchant=question.merchant, mode=question.mode, day__range=(question.first, question.last)
    )
    for name, wanted, grouped in (
        ("currency", question.currency, question.by_currency),
        ("gateway", question.gateway, question.by_gateway),
    ):
        one = wanted or not grouped
        found = found.filter(**{name: wanted}) if one else found.exclude(**{name: ""})
    return found.order_by("day", "currency", "gateway")


def represent_row(row: DailyMetric) -> dict[str, Any]:
    """A row as JSON; money in major units, rates from 0 to 1, times in seconds."""
    return {
        "day": row.day.isoformat(),
        "currency": row.currency or None,
        "gateway": row.gateway or None,
        **counts(row),
        "volume": money(row.volume, row.currency),
        "refunded": money(row.refunded, row.currency),
        "seconds": {
            "mean": row.seconds_mean,
            "p50": row.seconds_p50,
            "p95": row.seconds_p95,
            "p99": row.seconds_p99,
        },
        "failure_reasons": row.reasons,
    }


def counts(row: "DailyMetric | Totals") -> dict[str, Any]:
    """What rows and sums of rows have in common."""
    return {
        "accepted": row.accepted,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "canceled": row.canceled,
        "open": still_open(row),
        "refunds": row.refunds,
        "success_rate": ratio(row.succeeded, row.succeeded + row.failed),
        "failure_rate": ratio(row.failed, row.succeeded + row.failed),
        "attempts_per_payment": ratio(row.attempts, row.accepted),
    }


def still_open(row: "DailyMetric | Totals") -> int:
    """How many payments have not come to an end."""
    return row.accepted - row.succeeded - row.failed - row.canceled


def money(minor: int | None, currency: str) -> str | None:
    """In major units; None where there is no one currency."""
    return None if minor is None else to_major_units(minor, currency)


def ratio(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return round(part / whole, 6) if whole else None


@dataclass(slots=True)
class Totals:
    """The sum of some rows. Percentiles do not add up; of them the highest of a day is told."""

    accepted: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    refunds: int = 0
    attempts: int = 0
    seconds: float = 0.0
    highest_p95: float | None = None
    volume: Counter[str] = field(default_factory=Counter)
    refunded: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, row: DailyMetric) -> None:
        """Count a row of all currencies and gateways in."""
        for name in ("accepted", "succeeded", "failed", "canceled", "refunds", "attempts"):
            setattr(self, name, getattr(self, name) + getattr(row, name))
        self.reasons.update(row.reasons)
        if row.seconds_mean is not None:
            self.seconds += row.seconds_mean * ended(row)
            self.highest_p95 = max(self.highest_p95 or 0.0, row.seconds_p95 or 0.0)

    def add_money(self, row: DailyMetric) -> None:
        """Count the money of a row of one currency in."""
        self.volume[row.currency] += row.volume or 0
        self.refunded[row.currency] += row.refunded or 0

    def represent(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **counts(self),
            "volume": in_major_units(self.volume),
            "refunded": in_major_units(self.refunded),
            "seconds": {
                "mean": round(self.seconds / ended(self), 6) if ended(self) else None,
                "highest_daily_p95": self.highest_p95,
            },
            "failure_reasons": dict(self.reasons.most_common()),
        }


def ended(row: DailyMetric | Totals) -> int:
    """How many payments have come to an end."""
    return row.succeeded + row.failed + row.canceled


def in_major_units(sums: Mapping[str, int]) -> dict[str, str]:
    """Sums by currency, as people write them."""
    return {currency: to_major_units(minor, currency) for currency, minor in sorted(sums.items())}


def totals_for(question: Question) -> Totals:
    """What the days of a question add up to, in two queries of as many rows as there are days and currencies."""
    totals = Totals()
    for row in rows_for(replace(question, by_currency=False, by_gateway=False)):
        totals.add(row)
    for row in rows_for(replace(question, by_currency=True, by_gateway=False)):
        totals.add_money(row)
    return totals


def by_day(rows: Iterable[DailyMetric], first: date, last: date) -> list[tuple[date, DailyMetric | None]]:
    """One entry for each day, also for those on which nothing was paid: a chart has no gaps."""
    found = {row.day: row for row in rows}
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [(day, found.get(day)) for day in days]
