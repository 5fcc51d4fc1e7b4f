"""The only writer of a payment's status. Every move is a conditional update, and its event is written with it.

The caller holds the rows' locks; the condition on status and fence holds even where a caller does not, and
the database's own trigger holds where this module is not asked at all. Payments that change in the same way
change together: one statement for all of them, as for one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from itertools import groupby, repeat
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


#: The columns that `happened` has of a new payment, by the database's clock.
TIMES: Final = ("revive_at", "charge_before")
PAYMENT_COLUMNS: Final = [field.attname for field in Payment._meta.fields if field.attname not in TIMES]  # noqa: SLF001  # documented
EVENT_COLUMNS: Final = [field.attname for field in PaymentEvent._meta.fields]  # noqa: SLF001  # documented

#: Parts of larger statements. The first inserts new payments, the second the events of what has `happened`: each only
#: for those that `happened` has the id of. New payments come in the order of their orders, and after all keys that
#: `happened` waits for, so that two statements never wait for each other in turn.
NEW_PAYMENTS: Final = f"""
    new_payments AS (
        INSERT INTO payments_payment ({", ".join(PAYMENT_COLUMNS)}, {", ".join(TIMES)})
        SELECT payment.{", payment.".join(PAYMENT_COLUMNS)}, happened.{", happened.".join(TIMES)}
        FROM json_populate_recordset(NULL::payments_payment, %(payments)s::json) AS payment
        JOIN happened ON happened.id = payment.id
        ORDER BY payment.merchant_id, payment.mode, payment.order_id
    )
"""  # noqa: S608  # nobody but the models names columns  # nosec B608
NEW_EVENTS: Final = f"""
    new_events AS (
        INSERT INTO payments_paymentevent ({", ".join(EVENT_COLUMNS)})
        SELECT event.{", event.".join(EVENT_COLUMNS)}
        FROM json_populate_recordset(NULL::payments_paymentevent, %(events)s::json) AS event
        JOIN happened ON happened.id = event.payment_id
    )
"""  # noqa: S608  # nobody but the models names columns  # nosec B608

Rows = dict[str, list[dict[str, Any]]]

#: One new payment with its first event. A pending payment has a time for the rescue (a CHECK holds that); the caller
#: moves it on in the same transaction.
CREATE: Final = f"""
    WITH happened AS (
        SELECT %(id)s::uuid AS id, statement_timestamp() AS revive_at, NULL::timestamptz AS charge_before
    ), {NEW_PAYMENTS}, {NEW_EVENTS}, {outbox.STAGED}
    SELECT id FROM happened
"""  # noqa: S608  # put together of our own parts  # nosec B608


def begin(payments: Sequence[Payment], views: Sequence[PaymentView]) -> Rows:
    """The parameters of a statement that has `NEW_PAYMENTS`, for `pending` ones, and what is told of them. `views` show
    the payments as they are now.
    """
    assert all(payment.status == Status.PENDING for payment in payments), "a payment begins as the model says"
    rows = [{column: getattr(payment, column) for column in PAYMENT_COLUMNS} for payment in payments]
    moments = [payment.created_at for payment in payments]
    return {"payments": rows, **tell(EventType.CREATED, payments, views, moments)}


def tell(
    kind: EventType, payments: Sequence[Payment], views: Sequence[PaymentView], moments: Iterable[datetime]
) -> Rows:
    """The parameters of a statement that has `NEW_EVENTS` and `outbox.STAGED`: what has just happened to some payments,
    with each as it now is, and what announces it to others.
    """
    rows: Rows = {"events": [], "messages": []}
    for payment, view, moment in zip(payments, views, moments, strict=True):
        event = event_of(payment, kind, view, at=moment)
        announcement = announcement_of(payment, view, event)
        rows["events"].append(event)
        rows["messages"] += [{"about": payment.pk, **row} for row in outbox.rows_of(announcement)]
    return rows


def create(payment: Payment, *, now: datetime) -> None:
    """Insert one `pending` payment with its event, in the caller's transaction, outside of the hot path.

    Raises:
        IntegrityError: another payment holds the order, or has the id.
    """
    assert transaction.get_connection().in_atomic_block, "a payment is created and moved on in one transaction"
    rows = begin([payment], [represent(payment)])
    for event in rows["events"]:
        event["created_at"] = now
    parameters = {name: records.document(listed) for name, listed in rows.items()}
    with connection.cursor() as cursor:
        cursor.execute(CREATE, {**parameters, "id": payment.pk})


class News(NamedTuple):
    """What has just happened to payments, and when."""

    kind: EventType
    at: datetime


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
    update_all(moves, News(entered(to), now))


def stay(payment: Payment, **values: Any) -> None:
    """`stay_all` of one."""
    stay_all([Change(payment, values)])


def stay_all(changes: Sequence[Change]) -> None:
    """Change other columns of locked payments, conditionally as a move is; no event."""
    assert not any("status" in values for _, values in changes), "a new status is a move"
    update_all(changes)


def flag_for_review(payment: Payment, *, now: datetime, **values: Any) -> None:
    """Ask people to look at a locked payment, with an event; its status stays."""
    change = Change(payment, {**values, "needs_review": True, "version": payment.version + 1})
    update_all([change], News(EventType.NEEDS_REVIEW, now))


def update_all(changes: Iterable[Change], news: News | None = None) -> None:
    """Update the rows if they still are as the payments say, and the payments with them; and write their `news`.

    One statement for those of which the same columns change. Where one fails, the transaction must be rolled back, and
    the payments of the statements before it read again.
    """
    assert transaction.get_connection().in_atomic_block, "a payment changes in the transaction that locked it"
    by_columns = sorted(changes, key=columns_of)
    for columns, alike in groupby(by_columns, key=columns_of):
        update_alike(columns, list(alike), news)


def columns_of(change: Change) -> tuple[str, ...]:
    """The names of what changes."""
    return tuple(sorted(change.values))


UPDATE: Final = """
    UPDATE payments_payment AS payment SET {assignments}
    FROM {records}
    WHERE payment.id = new.id AND payment.status = new.old_status AND payment.fence = new.old_fence
    RETURNING payment.id
"""
#: The same, with its news.
MOVE: Final = f"WITH happened AS ({UPDATE}), {NEW_EVENTS}, {outbox.STAGED} SELECT id FROM happened"  # noqa: S608  # put together of our own parts  # nosec B608
#: How a row is found again.
FOUND_BY: Final = {"id": "uuid", "old_status": "text", "old_fence": "integer"}


def update_alike(columns: tuple[str, ...], changes: Sequence[Change], news: News | None) -> None:
    """The statement."""
    rows = [
        {"id": payment.pk, "old_status": payment.status, "old_fence": payment.fence, **values}
        for payment, values in changes
    ]
    parameters = records.named("changes", rows)
    with changed(changes) as payments:
        if news is not None:
            views = [represent(payment) for payment in payments]
            told = tell(news.kind, payments, views, repeat(news.at, len(payments)))
            parameters |= {name: records.document(listed) for name, listed in told.items()}
        with connection.cursor() as cursor:
            cursor.execute(statement_for(columns, UPDATE if news is None else MOVE), parameters)
            if cursor.rowcount != len(changes):
                raise LostRace(", ".join(str(payment.pk) for payment in payments)[:500])
    if news is not None:
        failpoint("event.written")


@cache
def statement_for(columns: tuple[str, ...], form: str) -> str:
    """`UPDATE` or `MOVE`, for these columns."""
    return form.format(
        assignments=", ".join(f"{column} = new.{column}" for column in columns),
        records=records.records(FOUND_BY | records.types_of(Payment, columns), name="new", parameter="changes"),
    )


@contextmanager
def changed(changes: Sequence[Change]) -> Iterator[list[Payment]]:
    """The payments as they will be; if the block fails, these are as before."""
    before = [Change(payment, {name: getattr(payment, name) for name in values}) for payment, values in changes]
    try:
        yield apply(changes)
    except BaseException:
        apply(before)
        raise


def apply(changes: Sequence[Change]) -> list[Payment]:
    """Give payments their new values."""
    for payment, values in changes:
        for name, value in values.items():
            setattr(payment, name, value)
    return [payment for payment, _ in changes]


def event_of(payment: Payment, event_type: EventType, view: PaymentView, *, at: datetime) -> dict[str, Any]:
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
        "created_at": at,
    }


def announcement_of(payment: Payment, view: PaymentView, event: Mapping[str, Any]) -> Announcement:
    """What others are told of an event."""
    kind: EventType = event["type"]
    return Announcement(
        kind=kind,
        event_id=event["id"],
        body=cloud_events.encode(payment, view, event_id=event["id"], event_type=kind, at=event["created_at"]),
        content_type=cloud_events.CONTENT_TYPE,
        request_id=payment.request_id,
    )
