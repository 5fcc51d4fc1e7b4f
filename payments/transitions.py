"""The only writer of a payment's status. Every move is a conditional update, and its event is written with it.

The caller holds the row's lock; the condition on status and fence holds even where a caller does not, and
the database's own trigger holds where this module is not asked at all.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from messaging import outbox
from messaging.failpoints import failpoint
from payments import cloud_events
from payments.events import SNAPSHOT_SCHEMA, EventType, entered
from payments.models import Payment, PaymentEvent
from payments.reads import represent
from payments.states import FINAL, LEGAL_MOVES, Status


class IllegalMove(Exception):
    """No payment may go from the one state to the other: a defect in the caller."""


class LostRace(Exception):
    """Somebody else moved the payment since it was read; the transaction must be rolled back."""


def begin(payment: Payment) -> None:
    """Insert a new payment, `pending`, with its first event."""
    payment.status = Status.PENDING
    payment.save(force_insert=True)
    write_event(payment, EventType.CREATED)


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
    event = PaymentEvent.objects.create(
        payment=payment,
        merchant_id=payment.merchant_id,
        mode=payment.mode,
        type=event_type,
        version=payment.version,
        snapshot={"schema": SNAPSHOT_SCHEMA, **view},
        request_id=payment.request_id,
    )
    outbox.announce(
        event_type,
        cloud_events.encode(event, payment, view),
        event_id=event.pk,
        content_type=cloud_events.CONTENT_TYPE,
        request_id=payment.request_id,
    )
    failpoint("event.written")
