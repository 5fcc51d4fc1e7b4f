"""The numbers on the console's home: what today is like, and what waits for somebody, each with the list behind it.

Every query here reads a partial index or a small table: it costs the same at any age of the house.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from analytics.reads import ratio
from console.period import Period
from merchants.models import Approval
from messaging.models import DeadLetter
from payments.money import to_major_units
from payments.unmatched_charge import count_open


@dataclass(frozen=True, slots=True)
class Card:
    """One number, in words, and where it leads. `state` is a CSS class where it asks for attention."""

    name: str
    value: str
    href: str
    says: str = ""
    state: str = ""


def cards(request: HttpRequest, shown: Period | None) -> list[Card]:
    """What the one who asks may see; `shown` where those are the metrics, too."""
    found = numbers_of_today(shown) if shown else []
    if request.user.has_perm("payments.view_payment"):
        found.append(unknown_payments())
    if request.user.has_perm("payments.view_unmatchedcharge"):
        found.append(unmatched_charges())
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


def unmatched_charges() -> Card:
    """Charges that no payment accounts for."""
    count = count_open()
    href = listing("payments_unmatchedcharge", state__exact="open")
    return Card("Unmatched charges", f"{count}", href, "wait for a decision", "bad" if count else "")


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
