"""Payments of any day and outcome, written as they would stand in the database, for tests of what they add up to."""

from datetime import datetime, timedelta

from django.utils import timezone

from analytics.models import DailyMetric
from merchants.models import Merchant, Mode
from payments import transitions
from payments.events import EventType
from payments.ids import uuid7
from payments.models import Payment, PaymentEvent
from payments.reads import represent
from payments.states import Status

#: What a row says, but for who computed it when.
NUMBERS = [field.name for field in DailyMetric._meta.fields if field.name not in {"id", "computed_at"}]


def rows(**chosen):
    """All rows of the metrics, as comparable values."""
    return sorted(DailyMetric.objects.filter(**chosen).values_list(*NUMBERS), key=str)


def pay(
    merchant: Merchant,
    at: datetime,
    *,
    amount: int = 1000,
    currency: str = "EUR",
    gateway: str = "sandbox",
    mode: Mode = Mode.TEST,
) -> Payment:
    """A payment that was accepted at a time, with its event, which is written now."""
    payment = Payment(
        id=uuid7(),
        merchant=merchant,
        mode=mode,
        gateway=gateway,
        amount=amount,
        currency=currency,
        payment_method="pm_ok",
        created_at=at,
        revive_at=at + timedelta(minutes=1),
    )
    payment.save(force_insert=True)
    event = transitions.event_of(payment, EventType.CREATED, represent(payment), at=timezone.now())
    PaymentEvent.objects.create(**event)
    return payment


def finish(payment: Payment, status: Status, *, after: float = 1.0, attempts: int = 1, **changes: object) -> None:
    """Let it end so many seconds after it was accepted."""
    ends = payment.created_at + timedelta(seconds=after)
    if payment.status == Status.PENDING and status != Status.CANCELED:
        transitions.move(payment, Status.PROCESSING, now=ends, charge_attempts=attempts)
    money = {"amount_captured": payment.amount} if status == Status.SUCCEEDED else {}
    transitions.move(payment, status, now=ends, **money, **changes)


def replay(payment: Payment) -> None:
    """Bring a failed one back."""
    now = timezone.now()
    transitions.move(payment, Status.PENDING, now=now, revive_at=now, finished_at=None, holds_order=True, error_code="")
