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
        FROM json_populate_recordset(NULL::payments_payment, %(payments)s::json) AS payment
        JOIN begun ON begun.id = payment.id
        ORDER BY payment.merchant_id, payment.mode, payment.order_id
    ), new_events AS (
        INSERT INTO payments_paymentevent ({", ".join(EVENT_COLUMNS)})
        SELECT event.{", event.".join(EVENT_COLUMNS)}
        FROM json_populate_recordset(NULL::payments_paymentevent, %(events)s::json) AS event
        JOIN begun ON begun.id = event.payment_id
    )
"""  # noqa: S608  # nobody but the models names columns  # nosec B608


def begin(payments: Sequence[Payment], views: Sequence[PaymentView]) -> dict[str, list[dict[str, Any]]]:
    """The parameters of a statement that has `BEGUN`, for new payments, `pending`; and the `messages` that announce
    them, each with what it is `about`. `views` show the payments as they are now.
    """
    rows: dict[str, list[dict[str, Any]]] = {"payments": [], "events": [], "messages": []}
    for payment, view in zip(payments, views, strict=True):
        assert payment.status == Status.PENDING, "a payment begins as the model says"
        event = {**event_of(payment, EventType.CREATED, view), "created_at": payment.created_at}
        announcement = announcement_of(payment, view, event, at=payment.created_at)
        rows["payments"].append({column: getattr(payment, column) for column in PAYMENT_COLUMNS})
        rows["events"].append(event)
        rows["messages"] += [{"about": payment.pk, **row} for row in outbox.rows_of(announcement)]
    return rows


class Change(NamedTuple):
    """A payment as it was read, and the new values of some of its columns."""

    payment: Payment
    values: Mapping[str, Any]


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
        cursor.execute(statement, records.parameters(rows))
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
            announcement_of(payment, view, event, at=moment)
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


def announcement_of(payment: Payment, view: PaymentView, event: Mapping[str, Any], *, at: datetime) -> Announcement:
    """What others are told of an event."""
    kind: EventType = event["type"]
    return Announcement(
        kind=kind,
        event_id=event["id"],
        body=cloud_events.encode(payment, view, event_id=event["id"], event_type=kind, at=at),
        content_type=cloud_events.CONTENT_TYPE,
        request_id=payment.request_id,
    )
