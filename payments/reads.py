"""What may be known about payments: their public shape, and the questions other rooms ask."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypedDict
from uuid import UUID

from django.db.models import QuerySet

from merchants.models import Merchant, Mode
from payments.declines import advice_for
from payments.models import Payment, PaymentEvent
from payments.money import to_major_units


class LastError(TypedDict):
    """Why a payment failed, or what its last attempt met."""

    code: str
    decline_code: str | None
    advice: str
    detail: str


class PaymentView(TypedDict):
    """A payment as the API, its events and its acceptance snapshot show it. Amounts are in major units."""

    id: str
    object: str
    mode: str
    status: str
    amount: str
    currency: str
    amount_captured: str
    amount_refunded: str
    order_id: str | None
    user_id: str | None
    description: str | None
    metadata: dict[str, str]
    payment_method: str
    attempts: int
    next_attempt_at: str | None
    last_error: LastError | None
    created_at: str
    finished_at: str | None
    links: dict[str, str]


class EventView(TypedDict):
    """What happened to a payment, as the API shows it; `data` is the payment as it was right after."""

    id: str
    object: str
    type: str
    version: int
    payment_id: str
    created_at: str
    request_id: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event for those who tell others of it: about which payment, and who its payer and its merchant are."""

    event_id: UUID
    type: str
    occurred_at: datetime
    payment_id: UUID
    merchant_id: UUID
    mode: str
    request_id: str
    user_id: str
    webhook_url: str
    receipt_email: str
    receipt_phone: str


#: What a happening is made of -> where that stands, seen from its event.
HAPPENING: Final = {
    "event_id": "id",
    "type": "type",
    "occurred_at": "created_at",
    "payment_id": "payment_id",
    "merchant_id": "merchant_id",
    "mode": "mode",
    "request_id": "request_id",
    "user_id": "payment__user_id",
    "webhook_url": "payment__webhook_url",
    "receipt_email": "payment__receipt_email",
    "receipt_phone": "payment__receipt_phone",
}


def path_of(payment: Payment) -> str:
    """Where the payment's current state is to be had."""
    return f"/api/v1/payments/{payment.id}"


#: The columns that `represent` reads.
SHOWN: Final = (
    *("id", "mode", "status", "amount", "currency", "amount_captured", "amount_refunded", "order_id", "user_id"),
    *("description", "metadata", "payment_method", "charge_attempts", "next_attempt_at"),
    *("error_code", "decline_code", "error_detail", "created_at", "finished_at"),
)


def represent(payment: Payment) -> PaymentView:
    """The public shape of a payment, or of a row with what is `SHOWN` of it."""
    return {
        "id": str(payment.id),
        "object": "payment",
        "mode": payment.mode,
        "status": payment.status,
        "amount": to_major_units(payment.amount, payment.currency),
        "currency": payment.currency,
        "amount_captured": to_major_units(payment.amount_captured, payment.currency),
        "amount_refunded": to_major_units(payment.amount_refunded, payment.currency),
        "order_id": payment.order_id or None,
        "user_id": payment.user_id or None,
        "description": payment.description or None,
        "metadata": payment.metadata,
        "payment_method": payment.payment_method,
        "attempts": payment.charge_attempts,
        "next_attempt_at": timestamp(payment.next_attempt_at) if payment.next_attempt_at else None,
        "last_error": last_error(payment),
        "created_at": timestamp(payment.created_at),
        "finished_at": timestamp(payment.finished_at) if payment.finished_at else None,
        "links": {"self": path_of(payment)},
    }


def represent_event(event: PaymentEvent) -> EventView:
    """The public shape of an event."""
    return {
        "id": str(event.id),
        "object": "event",
        "type": event.type,
        "version": event.version,
        "payment_id": str(event.payment_id),
        "created_at": timestamp(event.created_at),
        "request_id": event.request_id or None,
        "data": event.snapshot,
    }


def happenings(event_ids: Iterable[UUID]) -> list[Happening]:
    """Events by their ids, in one query; unknown ids are left out."""
    events = PaymentEvent.objects.filter(pk__in=list(event_ids)).order_by("id")
    return [Happening(**dict(zip(HAPPENING, row, strict=True))) for row in events.values_list(*HAPPENING.values())]


def payment_at(event_id: UUID) -> dict[str, Any]:
    """A payment as it was right after an event.

    Raises:
        PaymentEvent.DoesNotExist: there is no such event.
    """
    version, snapshot = PaymentEvent.objects.values_list("version", "snapshot").get(pk=event_id)
    return {**snapshot, "version": version}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def last_error(payment: Payment) -> LastError | None:
    """What went wrong last, with advice in plain words."""
    if not payment.error_code:
        return None
    return {
        "code": payment.error_code,
        "decline_code": payment.decline_code or None,
        "advice": advice_for(payment.error_code, payment.decline_code),
        "detail": payment.error_detail,
    }


def payments_of(merchant: Merchant, mode: Mode) -> QuerySet[Payment]:
    """All payments that a caller may see: those of its merchant, in its mode."""
    return Payment.objects.filter(merchant=merchant, mode=mode)


def events_of(merchant: Merchant, mode: Mode) -> QuerySet[PaymentEvent]:
    """All events that a caller may see: those of its payments."""
    return PaymentEvent.objects.filter(merchant=merchant, mode=mode)


def shown(payments: QuerySet[Payment]) -> QuerySet[Any]:
    """Of payments what `represent` reads, as rows: a model of each, with all columns, takes twice as long."""
    return payments.values_list(*SHOWN, named=True)
