"""What escapes an actor is staged again with a growing delay, and buried when it escapes for ever."""

from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from django.db import InterfaceError, InternalError, OperationalError
from dramatiq import Message, MessageProxy

from messaging import escapes
from messaging.escapes import LIMIT, Escaped, Escapes, each, handle_escape
from messaging.models import DeadLetter, OutboxMessage
from messaging.relay import to_message

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def message(ids=("1",), **options):
    return MessageProxy(
        Message(
            queue_name="payments",
            actor_name="process_payments",
            args=(),
            kwargs={"ids": list(ids)},
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
    again = MessageProxy(to_message([row]))
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


def test_one_id_that_fails_unexpectedly_does_not_hold_up_the_others():
    seen = []

    def operation(id_):
        seen.append(id_)
        if id_ == 2:
            raise ValueError("a defect")

    with pytest.raises(Escaped) as escaped:
        each([1, 2, 3], operation)
    assert seen == [1, 2, 3]
    assert [(id_, str(error)) for id_, error in escaped.value.failures.items()] == [("2", "a defect")]


def test_only_what_failed_of_a_message_comes_again_and_each_by_itself():
    handle_escape(message(ids=["1", "2", "3"]), Escaped({"1": failure(), "3": failure()}), now=NOW)
    assert [row.payload for row in OutboxMessage.objects.order_by("id")] == [{"ids": ["1"]}, {"ids": ["3"]}]
    assert {row.options["escapes"] for row in OutboxMessage.objects.all()} == {1}


@pytest.mark.parametrize(("escapes", "kept"), [(0, OutboxMessage), (LIMIT - 1, DeadLetter)])
def test_what_failed_of_a_list_is_still_found_by_its_request(escapes, kept):
    of_two = message(ids=["1", "2"], escapes=escapes, request_id="", request_ids={"1": "request-a", "2": "request-b"})
    handle_escape(of_two, failure(), now=NOW)
    assert sorted(kept.objects.values_list("request_id", flat=True)) == ["request-a", "request-b"]


@pytest.mark.parametrize("error", [failure(), Escaped({"another name for 2": failure()})])
def test_a_message_of_which_nobody_knows_what_failed_loses_nothing(error):
    handle_escape(message(ids=["1", "2"]), error, now=NOW)
    assert sorted(id_ for row in OutboxMessage.objects.all() for id_ in row.payload["ids"]) == ["1", "2"]


def test_each_payment_of_a_message_has_a_dead_letter_of_its_own_and_one_only():
    last = message(ids=["1", "2"], escapes=LIMIT - 1)
    for _ in range(2):  # delivered twice, as messages may be
        handle_escape(last, Escaped({"1": failure(), "2": ValueError("another")}), now=NOW)
    letters = DeadLetter.objects.order_by("subject").values_list("subject", "detail", "attempts")
    assert list(letters) == [("payment:1", "a defect", LIMIT), ("payment:2", "another", LIMIT)]


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
