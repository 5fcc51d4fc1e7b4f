"""The charts on the console's home: each a drawing of the last thirty days, and the same as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from analytics.models import DailyMetric
from analytics.reads import ratio
from console import charts
from console.charts import Drawing, Series
from console.period import Period
from payments.money import to_major_units

#: How many reasons of failures have a colour of their own.
REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the same as a table."""

    slug: str
    title: str
    drawing: Drawing
    legend: Sequence[tuple[str, str]]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def all_charts(shown: Period) -> list[Chart]:
    """Volume, success rate, reasons of failures, processing time."""
    return [volume_chart(shown), rate_chart(shown), reasons_chart(shown), time_chart(shown)]


def volume_chart(shown: Period) -> Chart:
    """Money captured of each day's payments."""
    scale = float(to_major_units(100, shown.currency)) / 100 if shown.currency else 1
    values = [(row.volume or 0) * scale if row else 0 for row in shown.in_currency]
    texts = [to_major_units(row.volume or 0, shown.currency) if row else "0" for row in shown.in_currency]
    counts = [f"{row.accepted}" if row else "0" for row in shown.rows]
    name = f"Volume in {shown.currency}" if shown.currency else "Volume"
    drawing = charts.bars(names(shown), [Series(name, values, "a")])
    return Chart("volume", name, drawing, [], ["Day", name, "Payments, all currencies"], table(shown, texts, counts))


def rate_chart(shown: Period) -> Chart:
    """The share that succeeded."""
    rates = [ratio(row.succeeded, row.succeeded + row.failed) if row else None for row in shown.rows]
    percent = [None if rate is None else 100 * rate for rate in rates]
    texts = ["-" if rate is None else f"{rate:.1%}" for rate in rates]
    drawing = charts.lines(names(shown), [Series("succeeded", percent, "a")], unit=" %", highest=100)
    return Chart("rate", "Success rate", drawing, [], ["Day", "Succeeded"], table(shown, texts))


def reasons_chart(shown: Period) -> Chart:
    """Why payments failed: the most frequent reasons, and all others."""
    totals: dict[str, int] = {}
    for row in shown.rows:
        for reason, count in (row.reasons if row else {}).items():
            totals[reason] = totals.get(reason, 0) + count
    ranked = sorted(totals, key=lambda reason: (-totals[reason], reason))
    kept, rest = ranked[:REASONS], ranked[REASONS:]
    groups = [(reason, [reason]) for reason in kept] + ([("others", rest)] if rest else [])
    series = [
        Series(name.replace("_", " "), [count_of(row, members) for row in shown.rows], style)
        for (name, members), style in zip(groups, "abcdef", strict=False)
    ]
    texts = [[f"{value:.0f}" for value in one.values if value is not None] for one in series]
    legend = [(one.name, one.style) for one in series]
    heads = ["Day", *(one.name for one in series)]
    return Chart(
        "reasons", "Why payments failed", charts.bars(names(shown), series), legend, heads, table(shown, *texts)
    )


def count_of(row: DailyMetric | None, reasons: Sequence[str]) -> float:
    """How many payments of a day failed for these reasons."""
    return float(sum(row.reasons.get(reason, 0) for reason in reasons)) if row else 0.0


def time_chart(shown: Period) -> Chart:
    """Seconds from accepted to final."""
    series = [
        Series("p95", [row.seconds_p95 if row else None for row in shown.rows], "b"),
        Series("p50", [row.seconds_p50 if row else None for row in shown.rows], "a"),
    ]
    texts = [["-" if value is None else f"{value:.2f}" for value in one.values] for one in series]
    legend = [(one.name, one.style) for one in series]
    drawing = charts.lines(names(shown), series, unit=" s")
    return Chart("time", "Seconds from accepted to final", drawing, legend, ["Day", "p95", "p50"], table(shown, *texts))


def names(shown: Period) -> list[str]:
    """The days, as they stand below a chart."""
    return [f"{day:%d %b}" for day in shown.days]


def table(shown: Period, *columns: Sequence[str]) -> list[list[str]]:
    """A chart's numbers, the newest day first."""
    return [
        [day.isoformat(), *(column[place] for column in columns)]
        for place, day in reversed(list(enumerate(shown.days)))
    ]
