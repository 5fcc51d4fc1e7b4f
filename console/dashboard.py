"""The console's home: what today is like, each number with the list behind it, and the last thirty days.

Every query here reads a partial index, a small table, or at most a row per day: it costs the same at any age of the
house.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from analytics.models import DailyMetric, MetricsRun
from analytics.reads import Question, by_day, ratio, rows_for
from console import charts
from console.charts import Drawing, Series
from merchants.models import Approval, Mode
from messaging.models import DeadLetter
from payments.money import to_major_units

DAYS: Final = 30
#: Numbers older than this are called old: cron computes them every five minutes.
FRESH_FOR: Final = timedelta(minutes=15)
#: How many reasons of failures have a colour of their own.
REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class Card:
    """One number, in words, and where it leads. `state` is a CSS class where it asks for attention."""

    name: str
    value: str
    href: str
    says: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and the same as a table."""

    slug: str
    title: str
    drawing: Drawing
    legend: Sequence[tuple[str, str]]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Period:
    """The days that are shown, with their rows: of all currencies, and of the one that most payments are in."""

    mode: Mode
    days: Sequence[date]
    rows: Sequence[DailyMetric | None]
    currency: str
    in_currency: Sequence[DailyMetric | None]


def mode_of(request: HttpRequest) -> Mode:
    """Which money is looked at: as asked for, else the real one where there is any."""
    asked = request.GET.get("mode", "")
    if asked in Mode.values:
        return Mode(asked)
    return Mode.LIVE if any(gateway["MODE"] == "live" for gateway in settings.GATEWAYS.values()) else Mode.TEST


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


# --- cards


def cards(request: HttpRequest, shown: Period) -> list[Card]:
    """What the one who asks may see."""
    found = []
    if request.user.has_perm("analytics.view_dailymetric"):
        found += numbers_of_today(shown)
    if request.user.has_perm("payments.view_payment"):
        found.append(unknown_payments())
    if request.user.has_perm("messaging.view_deadletter"):
        found.append(open_letters())
    if request.user.has_perm("merchants.view_approval"):
        found.append(pending_approvals())
    if request.user.has_perm("messaging.view_outboxmessage"):
        found.append(oldest_in_outbox())
    return found


def numbers_of_today(shown: Period) -> list[Card]:
    """Of the payments accepted today."""
    row, money = shown.rows[-1], shown.in_currency[-1]
    mode = shown.mode.value
    today = f"{shown.days[-1]}T00:00:00Z"
    payments = listing("payments_payment", mode__exact=mode, created_at__gte=today)
    failed = listing("payments_payment", mode__exact=mode, created_at__gte=today, status__exact="failed")
    metrics = listing("analytics_dailymetric", mode__exact=mode)
    volume = f"{Decimal(to_major_units(money.volume or 0, shown.currency)):,}" if money else "0"
    rate = ratio(row.succeeded, row.succeeded + row.failed) if row else None
    p95 = row.seconds_p95 if row else None
    return [
        Card("Volume today", f"{volume} {shown.currency}".strip(), payments, f"{row.accepted if row else 0} payments"),
        Card(
            "Success rate today", "-" if rate is None else f"{rate:.1%}", failed, f"{row.failed if row else 0} failed"
        ),
        Card("Accepted to final, p95", "-" if p95 is None else f"{p95:.2f} s", metrics, "of those accepted today"),
    ]


def unknown_payments() -> Card:
    """Outcomes that are being looked up."""
    count = scalar("SELECT count(*) FROM payments_payment WHERE status = 'unknown'")
    href = listing("payments_payment", status__exact="unknown")
    return Card("Outcome unknown", f"{count}", href, "looked up by themselves", "warn" if count else "")


def open_letters() -> Card:
    """What nobody has decided on."""
    count = DeadLetter.objects.filter(state=DeadLetter.State.OPEN).count()
    href = listing("messaging_deadletter")
    return Card("Open dead letters", f"{count}", href, "wait for a decision", "bad" if count else "")


def pending_approvals() -> Card:
    """What waits for a second person."""
    count = Approval.objects.filter(state=Approval.State.PENDING, expires_at__gt=timezone.now()).count()
    href = listing("merchants_approval")
    return Card("Approvals", f"{count}", href, "wait for a second person", "warn" if count else "")


def oldest_in_outbox() -> Card:
    """How far the relay is behind."""
    seconds = scalar(
        "SELECT coalesce(extract(epoch FROM now() - min(available_at)), 0)::float8 FROM messaging_outboxmessage "
        "WHERE available_at <= now()"
    )
    href = listing("messaging_outboxmessage")
    return Card(
        "Oldest in the outbox", duration(seconds), href, "due, and not published", "bad" if seconds > 60 else ""
    )


def listing(model: str, **filters: str) -> str:
    """The address of a list of the console, narrowed down."""
    query = f"?{urlencode(filters)}" if filters else ""
    return reverse(f"admin:{model}_changelist") + query


def scalar(query: str) -> Any:
    """The one value of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 1:
        return "0 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"


# --- charts


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


# --- all of it


def dashboard(request: HttpRequest, *, now: datetime | None = None) -> dict[str, Any]:
    """The context of the home page."""
    now = now or timezone.now()
    shown = period(mode_of(request), today=now.date())
    may_see = request.user.has_perm("analytics.view_dailymetric")
    latest = MetricsRun.objects.order_by("-id").values_list("finished_at", flat=True).first() if may_see else None
    return {
        "cards": cards(request, shown),
        "charts": all_charts(shown) if may_see else [],
        "mode": shown.mode,
        "modes": list(Mode),
        "computed_at": latest,
        "is_old": may_see and (latest is None or now - latest > FRESH_FOR),
        "may_see": may_see,
    }
