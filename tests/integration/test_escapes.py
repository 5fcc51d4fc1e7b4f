"""What escapes an actor is staged again with a growing delay, and buried when it escapes for ever."""

from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from django.db import InterfaceError, InternalError, OperationalError
from dramatiq import Message, MessageProxy

from messaging import escapes
from messaging.escapes import LIMIT, Escapes, handle_escape
from messaging.models import DeadLetter, OutboxMessage
from messaging.relay import to_message
from payments import actors

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def message(**options):
    return MessageProxy(
        Message(
            queue_name="payments",
            actor_name="process_payments",
            args=(),
            kwargs={"ids": ["1"]},
            options={"request_id": "r", **options},
        )
    )


def failure():
    try:
        raise ValueError("a defect")
    except ValueError as error:
        return error


def test_an_escaped_message_is_staged_again_with_its_history():
    handle_escape(message(), failure(), now=NOW)
    row = OutboxMessage.objects.get()
    assert (row.queue, row.actor, row.payload, row.request_id) == ("payments", "process_payments", {"ids": ["1"]}, "r")
    assert row.available_at == NOW + timedelta(seconds=1)
    again = MessageProxy(to_message(row))
    handle_escape(again, failure(), now=NOW + timedelta(hours=1))
    latest = OutboxMessage.objects.latest("id")
    assert latest.options == {"escapes": 2, "first_failed_at": NOW.isoformat()}


def test_a_message_that_escapes_for_ever_becomes_one_dead_letter():
    last = message(escapes=LIMIT - 1, first_failed_at=(NOW - timedelta(minutes=9)).isoformat())
    for _ in range(2):  # delivered twice, as messages may be
        handle_escape(last, failure(), now=NOW)
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.detail, letter.attempts) == ("ValueError", "a defect", LIMIT)
    assert str(letter.message_id) == last.message_id
    assert letter.first_failed_at == NOW - timedelta(minutes=9)
    assert "test_escapes.py" in letter.traceback
    assert not OutboxMessage.objects.exists()


def test_a_message_is_not_acknowledged_when_its_escape_cannot_be_stored(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("the database is away")

    monkeypatch.setattr(escapes, "handle_escape", unreachable)
    lost = message()
    with pytest.raises(ConnectionError):
        Escapes().after_process_message(dramatiq.get_broker(), lost, exception=failure())
    assert lost.failed  # Dramatiq then rejects it to the dead-letter queue


def test_a_message_whose_actor_returns_leaves_no_trace():
    Escapes().after_process_message(dramatiq.get_broker(), message(), result=None)
    assert not OutboxMessage.objects.exists()


def test_one_payment_that_fails_unexpectedly_does_not_hold_up_the_others(monkeypatch):
    seen = []

    def operation(*, payment_id):
        seen.append(str(payment_id)[-1])
        if str(payment_id).endswith("2"):
            raise ValueError("a defect")

    monkeypatch.setattr(actors, "process_payment", operation)
    ids = [f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2, 3)]
    with pytest.raises(ValueError, match="a defect"):
        actors.process_payments.fn(ids=ids)
    assert seen == ["1", "2", "3"]


def test_a_message_waits_for_a_database_that_is_away_and_is_not_rejected(monkeypatch):
    """Rejecting it moved whole queues into their dead-letter queues within seconds of an outage."""
    answers = [
        OperationalError("the server closed the connection"),
        InterfaceError("connection is closed"),
        InternalError("cannot execute INSERT in a read-only transaction"),
        None,
    ]

    def store(*args, **kwargs):
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(escapes, "handle_escape", store)
    monkeypatch.setattr(escapes, "OUTAGE_PAUSES", (0.0, 0.0, 0.0, 0.0))
    waiting = message()
    Escapes().after_process_message(dramatiq.get_broker(), waiting, exception=failure())
    assert answers == []
    assert not waiting.failed


def test_a_payment_that_escapes_again_after_its_dead_letter_makes_no_second_one():
    """The rescue brings it back under new message ids for as long as it is in work."""
    for _ in range(3):
        handle_escape(message(escapes=LIMIT - 1), failure(), now=NOW)
    letter = DeadLetter.objects.get()
    assert (letter.subject, letter.attempts) == ("payment:1", 3 * LIMIT)


def test_a_dead_letter_quotes_no_row_of_the_database():
    error = ValueError('new row violates check constraint "x"\nDETAIL:  Failing row contains (canary@example.com).')
    handle_escape(message(escapes=LIMIT - 1), error, now=NOW)
    assert "canary" not in DeadLetter.objects.get().detail
