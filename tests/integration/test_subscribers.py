"""Rooms of ours take events straight from the outbox: each exactly once, whatever fails."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connections, transaction
from dramatiq import Message

from messaging import subscribers
from messaging.models import OutboxMessage
from messaging.publisher import Published
from messaging.relay import run_once as relay_once
from messaging.subscribers import run_once
from tests.announcing import announcement
from tests.outbox import announce as stage_events
from tests.outbox import subscribed, work

pytestmark = pytest.mark.django_db(transaction=True)

#: What the room has taken.
taken: list[uuid.UUID] = []
#: What it fails at.
poison: set[uuid.UUID] = set()
fails_with: list[Exception] = []


def take(ids):
    """A room: it takes what it can, in the transaction that it is called in."""
    if fails_with:
        raise fails_with[0]
    for id_ in ids:
        if id_ in poison:
            raise ValueError("poison")
        # An effect that is rolled back with the batch.
        OutboxMessage.objects.create(queue="effects", actor="effect", payload={"of": str(id_)})
    taken.extend(ids)


@pytest.fixture(autouse=True)
def room(settings):
    settings.EVENT_SUBSCRIBERS = {"notifications": ("event.written", f"{__name__}.take")}
    for memory in (taken, poison, fails_with):
        memory.clear()


class Publisher:
    """Confirms everything, and keeps the messages to actors."""

    def __init__(self):
        self.messages = []

    def publish(self, envelopes):
        self.messages += [Message.decode(envelope.body) for envelope in envelopes if not envelope.exchange]
        return Published(confirmed={envelope.message_id for envelope in envelopes})


def effects():
    return sorted(OutboxMessage.objects.filter(queue="effects").values_list("payload__of", flat=True))


def announce(count=1):
    ids = [uuid.uuid4() for _ in range(count)]
    with transaction.atomic():
        stage_events(*(announcement(id_, request_id="r-1") for id_ in ids))
    return ids


def test_an_event_is_taken_once_and_no_row_is_left():
    ids = announce(3)
    assert run_once("notifications") == 3
    assert run_once("notifications") == 0
    assert effects() == sorted(map(str, ids))
    assert not subscribed().exists()


def test_an_event_of_a_transaction_that_is_rolled_back_is_never_taken():
    with transaction.atomic():
        announce()
        transaction.set_rollback(True)  # the payment was not made after all
    assert run_once("notifications") == 0


def test_the_relay_never_publishes_what_a_room_takes():
    announce(2)
    to_actors = Publisher()
    relay_once(to_actors)
    assert to_actors.messages == []
    assert subscribed().count() == 2


def test_a_crash_before_the_commit_leaves_neither_effect_nor_gap(monkeypatch):
    (id_,) = announce()

    def crash(_name):
        raise RuntimeError("power cut")

    monkeypatch.setattr(subscribers, "failpoint", crash)
    with pytest.raises(RuntimeError):
        run_once("notifications")
    assert effects() == []
    monkeypatch.undo()
    run_once("notifications")
    assert effects() == [str(id_)]


def test_one_poisonous_event_does_not_hold_up_the_others_and_goes_to_its_actor():
    ids = announce(5)
    poison.add(ids[2])
    assert run_once("notifications") == 5
    assert effects() == sorted(str(id_) for id_ in ids if id_ not in poison)
    (message,) = work().exclude(queue="effects")
    assert (message.queue, message.actor, message.request_id) == ("notifications", "fan_out_events", "r-1")
    assert message.payload == {"ids": [str(ids[2])]}


def test_what_is_passed_on_is_a_message_that_its_actor_understands():
    poison.update(announce())
    run_once("notifications")
    to_actors = Publisher()
    relay_once(to_actors)
    (message,) = to_actors.messages
    assert (message.actor_name, message.kwargs) == ("fan_out_events", {"ids": [str(next(iter(poison)))]})


def test_while_the_database_is_away_no_event_is_passed_on():
    announce(2)
    fails_with.append(OperationalError("the server closed the connection"))
    with pytest.raises(OperationalError):
        run_once("notifications")
    fails_with.clear()
    assert subscribed().count() == 2
    assert run_once("notifications") == 2


def test_two_at_once_never_take_the_same_event():
    ids = announce(60)

    def work_off(_number):
        try:
            return sum(run_once("notifications", batch=7) for _ in range(10))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work_off, range(4))) == 60
    assert effects() == sorted(map(str, ids))
