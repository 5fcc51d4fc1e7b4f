"""The last thirty days, as the console's home shows them: a row a day, of small tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from analytics.models import DailyMetric
from analytics.reads import Question, by_day, rows_for
from merchants.models import Mode

DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Period:
    """The days that are shown, with their rows: of all currencies, and of the one that most payments are in."""

    mode: Mode
    days: Sequence[date]
    rows: Sequence[DailyMetric | None]
    currency: str
    in_currency: Sequence[DailyMetric | None]


def period(mode: Mode, *, today: date) -> Period:
    """The last thirty days; two queries."""
    first = today - timedelta(days=DAYS - 1)
    question = Question(merchant=None, mode=mode, first=first, last=today, by_currency=True)
    found = list(rows_for(question))
    accepted: dict[str, int] = {}
    for row in found:
        accepted[row.currency] = accepted.get(row.currency, 0) + row.accepted
    currency = max(accepted, key=lambda code: accepted[code], default="")
    whole = rows_for(Question(merchant=None, mode=mode, first=first, last=today, by_currency=False))
    days = by_day(whole, first, today)
    one = by_day((row for row in found if row.currency == currency), first, today)
    return Period(mode, [day for day, _ in days], [row for _, row in days], currency, [row for _, row in one])
