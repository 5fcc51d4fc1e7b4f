"""The only writer of a payment's status. Every move is a conditional update, and its event is written with it.

The caller holds the rows' locks; the condition on status and fence holds even where a caller does not, and
the database's own trigger holds where this module is not asked at all. Payments that change in the same way
change together: one statement for all of them, as for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from messaging import outbox, records
from messaging.failpoints import failpoint
from messaging.outbox import Announcement
from payments import cloud_events
from payments.events import SNAPSHOT_SCHEMA, EventType, entered
from payments.ids import uuid7
from payments.models import Payment, PaymentEvent
from payments.reads import PaymentView, represent
from payments.states import FINAL, LEGAL_MOVES, Status

#: What was scheduled, and ends with the payment.
SCHEDULED: Final = ("next_attempt_at", "revive_at", "lease_expires_at", "held_since")


class IllegalMove(Exception):
    """No payment may go from the one state to the other: a defect in the caller."""


class LostRace(Exception):
    """Somebody else moved the payment since it was read; the transaction must be rolled back."""


class Change(NamedTuple):
    """A payment as it was read, and the new values of some of its columns."""

    payment: Payment
    values: Mapping[str, Any]


def begin(payment: Payment) -> None:
    """Insert a new payment, `pending`, with its first event."""
    payment.status = Status.PENDING
    payment.save(force_insert=True)
    write_events([payment], EventType.CREATED)


def move(payment: Payment, to: Status, *, now: datetime, **values: Any) -> None:
    """`move_all` of one."""
    move_all([Change(payment, values)], to, now=now)


def move_all(changes: Iterable[Change], to: Status, *, now: datetime) -> None:
    """Move locked payments to one state, each with other changes to its columns, and write their events.

    Entering a final state ends all that was scheduled.

    Raises:
        IllegalMove: the table of moves does not have it.
        LostRace: a row is not as its payment says; the caller did not hold its lock.
    """
    ended: dict[str, Any] = {"finished_at": now, **dict.fromkeys(SCHEDULED)} if to in FINAL else {}
    moves = []
    for payment, values in changes:
        if to not in LEGAL_MOVES[Status(payment.status)]:
            raise IllegalMove(f"{payment.status} -> {to.value}")
        moves.append(Change(payment, {**values, **ended, "status": to, "version": payment.version + 1}))
    update_all(moves)
    write_events([payment for payment, _ in moves], entered(to))


def stay(payment: Payment, **values: Any) -> None:
    """`stay_all` of one."""
    stay_all([Change(payment, values)])


def stay_all(changes: Sequence[Change]) -> None:
    """Change other columns of locked payments, conditionally as a move is; no event."""
    assert not any("status" in values for _, values in changes), "a new status is a move"
    update_all(changes)


def flag_for_review(payment: Payment, **values: Any) -> None:
    """Ask people to look at a locked payment, with an event; its status stays."""
    update_all([Change(payment, {**values, "needs_review": True, "version": payment.version + 1})])
    write_events([payment], EventType.NEEDS_REVIEW)


def update_all(changes: Iterable[Change]) -> None:
    """Update the rows if they still are as the payments say, and the payments with them.

    One statement for those of which the same columns change.
    """
    assert transaction.get_connection().in_atomic_block, "a payment changes in the transaction that locked it"
    by_columns = sorted(changes, key=columns_of)
    for columns, alike in groupby(by_columns, key=columns_of):
        update_alike(columns, list(alike))


def columns_of(change: Change) -> list[str]:
    """The names of what changes."""
    return sorted(change.values)


UPDATE: Final = """
    UPDATE payments_payment AS payment SET {assignments}
    FROM {records}
    WHERE payment.id = new.id AND payment.status = new.old_status AND payment.fence = new.old_fence
"""
#: How a row is found again.
FOUND_BY: Final = {"id": "uuid", "old_status": "text", "old_fence": "integer"}


def update_alike(columns: Sequence[str], changes: Sequence[Change]) -> None:
    """The statement."""
    types = records.types_of(Payment, columns)
    statement = UPDATE.format(
        assignments=", ".join(f"{column} = new.{column}" for column in columns),
        records=records.records(FOUND_BY | types, name="new"),
    )
    rows = [
        {"id": payment.pk, "old_status": payment.status, "old_fence": payment.fence, **values}
        for payment, values in changes
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, [records.document(rows)])
        if cursor.rowcount != len(changes):
            raise LostRace(", ".join(str(payment.pk) for payment, _ in changes)[:500])
    for payment, values in changes:
        for name, value in values.items():
            setattr(payment, name, value)


def write_events(payments: Sequence[Payment], event_type: EventType) -> None:
    """Append what has just happened to some payments, with each as it now is, and stage the announcements to others."""
    views = [represent(payment) for payment in payments]
    events = [event_of(payment, event_type, view) for payment, view in zip(payments, views, strict=True)]
    ((moment,), *_) = records.insert(PaymentEvent, events, returning=["created_at"])
    outbox.announce(
        [
            Announcement(
                kind=event_type,
                event_id=event["id"],
                body=cloud_events.encode(payment, view, event_id=event["id"], event_type=event_type, at=moment),
                content_type=cloud_events.CONTENT_TYPE,
                request_id=payment.request_id,
            )
            for event, payment, view in zip(events, payments, views, strict=True)
        ]
    )
    failpoint("event.written")


def event_of(payment: Payment, event_type: EventType, view: PaymentView) -> dict[str, Any]:
    """The row of an event."""
    return {
        "id": uuid7(),
        "payment_id": payment.pk,
        "merchant_id": payment.merchant_id,
        "mode": payment.mode,
        "type": event_type,
        "version": payment.version,
        "snapshot": {"schema": SNAPSHOT_SCHEMA, **view},
        "request_id": payment.request_id,
    }
