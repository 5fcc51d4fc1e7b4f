"""The only writer of a payment's status. Every move is a conditional update, and its event is written with it.

The caller holds the row's lock; the condition on status and fence holds even where a caller does not, and
the database's own trigger holds where this module is not asked at all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from messaging import outbox
from messaging.failpoints import failpoint
from payments import cloud_events
from payments.events import SNAPSHOT_SCHEMA, EventType, entered
from payments.models import Payment, PaymentEvent
from payments.reads import PaymentView, represent
from payments.states import FINAL, LEGAL_MOVES, Status


class IllegalMove(Exception):
    """No payment may go from the one state to the other: a defect in the caller."""


class LostRace(Exception):
    """Somebody else moved the payment since it was read; the transaction must be rolled back."""


#: The columns that `begun` has, by the database's clock.
TIMES: Final = ("revive_at", "charge_before")
PAYMENT_COLUMNS: Final = [field.attname for field in Payment._meta.fields if field.attname not in TIMES]  # noqa: SLF001  # documented
EVENT_COLUMNS: Final = [field.attname for field in PaymentEvent._meta.fields]  # noqa: SLF001  # documented

#: Part of a larger statement: inserts new payments with their first events, those that `begun` has the id of; the
#: parameters are made by `begin`. They come in the order of their orders, and after all keys that `begun` waits for, so
#: that two statements never wait for each other in turn.
BEGUN: Final = f"""
    new_payments AS (
        INSERT INTO payments_payment ({", ".join(PAYMENT_COLUMNS)}, {", ".join(TIMES)})
        SELECT payment.{", payment.".join(PAYMENT_COLUMNS)}, begun.{", begun.".join(TIMES)}
        FROM json_populate_recordset(NULL::payments_payment, %(payments)s) AS payment
        JOIN begun ON begun.id = payment.id
        ORDER BY payment.merchant_id, payment.mode, payment.order_id
    ), new_events AS (
        INSERT INTO payments_paymentevent ({", ".join(EVENT_COLUMNS)})
        SELECT event.{", event.".join(EVENT_COLUMNS)}
        FROM json_populate_recordset(NULL::payments_paymentevent, %(events)s) AS event
        JOIN begun ON begun.id = event.payment_id
    )
"""  # noqa: S608  # nobody but the models names columns  # nosec B608


def begin(payments: Sequence[Payment], views: Sequence[PaymentView]) -> dict[str, list[dict[str, Any]]]:
    """The parameters of a statement that has `BEGUN`, for new payments, `pending`; and the `messages` that announce
    them. `views` show the payments as they are now.
    """
    rows: dict[str, list[dict[str, Any]]] = {"payments": [], "events": [], "messages": []}
    for payment, view in zip(payments, views, strict=True):
        assert payment.status == Status.PENDING, "a payment begins as the model says"
        event = event_of(payment, EventType.CREATED, view)
        event.created_at = payment.created_at
        rows["payments"].append({column: getattr(payment, column) for column in PAYMENT_COLUMNS})
        rows["events"].append({column: getattr(event, column) for column in EVENT_COLUMNS})
        rows["messages"] += outbox.announced(
            event.type,
            cloud_events.encode(event, payment, view),
            event_id=event.pk,
            content_type=cloud_events.CONTENT_TYPE,
            about=payment.pk,
            request_id=payment.request_id,
        )
    return rows


def move(payment: Payment, to: Status, *, now: datetime, **changes: Any) -> None:
    """Move a locked payment, with any other changes to its columns, and write the event.

    Entering a final state ends all that was scheduled.

    Raises:
        IllegalMove: the table of moves does not have it.
        LostRace: the row is not as `payment` says; the caller did not hold its lock.
    """
    if to not in LEGAL_MOVES[Status(payment.status)]:
        raise IllegalMove(f"{payment.status} -> {to.value}")
    if to in FINAL:
        ended = ("next_attempt_at", "revive_at", "lease_expires_at", "held_since")
        changes |= {"finished_at": now, **dict.fromkeys(ended)}
    update(payment, status=to, version=payment.version + 1, **changes)
    write_event(payment, entered(to))


def stay(payment: Payment, **changes: Any) -> None:
    """Change other columns of a locked payment, conditionally as a move is; no event."""
    assert "status" not in changes, "a new status is a move"
    update(payment, **changes)


def flag_for_review(payment: Payment, **changes: Any) -> None:
    """Ask people to look at a locked payment, with an event; its status stays."""
    update(payment, needs_review=True, version=payment.version + 1, **changes)
    write_event(payment, EventType.NEEDS_REVIEW)


def update(payment: Payment, **changes: Any) -> None:
    """Update the row if it still is as `payment` says, and `payment` with it."""
    assert transaction.get_connection().in_atomic_block, "a payment changes in the transaction that locked it"
    matched = Payment.objects.filter(pk=payment.pk, status=payment.status, fence=payment.fence).update(**changes)
    if not matched:
        raise LostRace(str(payment.pk))
    for name, value in changes.items():
        setattr(payment, name, value)


def write_event(payment: Payment, event_type: EventType) -> None:
    """Append what has just happened, with the payment as it now is, and stage its announcement to other systems."""
    view = represent(payment)
    event = event_of(payment, event_type, view)
    event.save(force_insert=True)
    outbox.announce(
        event_type,
        cloud_events.encode(event, payment, view),
        event_id=event.pk,
        content_type=cloud_events.CONTENT_TYPE,
        request_id=payment.request_id,
    )
    failpoint("event.written")


def event_of(payment: Payment, event_type: EventType, view: PaymentView) -> PaymentEvent:
    """What has just happened; nothing is written yet. `view` is the payment as it is shown now."""
    return PaymentEvent(
        payment=payment,
        merchant_id=payment.merchant_id,
        mode=payment.mode,
        type=event_type,
        version=payment.version,
        snapshot={"schema": SNAPSHOT_SCHEMA, **view},
        request_id=payment.request_id,
    )
