"""Which rows of the outbox each reader takes, in which order, and that two readers never take the same row."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from messaging import lanes, outbox, records, relay
from messaging.models import OutboxMessage
from messaging.publisher import BrokerUnavailable, Published
from messaging.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = {
    "work": {"queue": "payments", "actor": "process"},
    "patient": {"queue": "notifications", "actor": "deliver", "waits": True},
    "event": {"queue": "payment.created", "exchange": "payments.events", "body": b"{}"},
    "patient event": {"queue": "payment.created", "exchange": "payments.events", "body": b"{}", "waits": True},
    "notifications": {"queue": "payments", "actor": "fan_out", "subscriber": "notifications"},
    "patient notifications": {"queue": "payments", "actor": "fan_out", "subscriber": "notifications", "waits": True},
    "analytics": {"queue": "payments", "actor": "fan_out", "subscriber": "analytics"},
}


@pytest.fixture
def staged():
    records.insert(OutboxMessage, [outbox.row(request_id=name, **values) for name, values in ROWS.items()])


def in_lane(lane, *values, batch=100):
    with transaction.atomic():
        return [row[0] for row in lanes.lock_due(lane, *values, columns=["request_id"], batch=batch)]


@pytest.mark.parametrize(
    ("lane", "values", "expected"),
    [
        (lanes.WORK, (), ["work"]),
        (lanes.PATIENT, (), ["patient"]),
        (lanes.EVENTS, (), ["event", "patient event"]),
        (lanes.IN_ROOM, ("notifications",), ["notifications", "patient notifications"]),
        (lanes.IN_ROOM, ("analytics",), ["analytics"]),
        (lanes.IN_ROOM, ("",), []),
        (lanes.EVERYTHING, (), ["work", "patient", "event", "patient event"]),
    ],
)
def test_each_lane_has_its_own_rows_and_no_others(staged, lane, values, expected):
    assert in_lane(lane, *values) == expected


@pytest.mark.parametrize("lane", [lanes.WORK, lanes.PATIENT, lanes.EVENTS, lanes.EVERYTHING])
def test_a_row_is_due_from_its_time_on(staged, lane):
    assert lanes.is_due(lane) is True
    OutboxMessage.objects.update(available_at=timezone.now() + timedelta(hours=1))
    assert lanes.is_due(lane) is False
    assert in_lane(lane) == []


def test_a_row_is_due_at_the_very_instant_of_its_time():
    """Staged and read in one statement's time: `statement_timestamp` is the same for both."""
    records.insert(OutboxMessage, [outbox.row(queue="payments", actor="process", request_id="now")])
    due = lanes.DUE.format(columns="request_id", lane=lanes.WORK).replace("statement_timestamp()", "available_at")
    with connection.cursor() as cursor:
        cursor.execute(due)
        assert cursor.fetchall() == [("now",)]


def test_the_oldest_are_taken_first_and_of_equal_ones_those_staged_first():
    now = timezone.now()
    ages = {"a": 1, "b": 3, "c": 3, "d": 2}
    rows = [outbox.row(queue="payments", actor="process", request_id=name) for name in ages]
    records.insert(OutboxMessage, rows)
    for name in reversed(ages):  # the table holds them the other way round
        OutboxMessage.objects.filter(request_id=name).update(available_at=now - timedelta(minutes=ages[name]))
    assert in_lane(lanes.WORK) == ["b", "c", "d", "a"]
    assert in_lane(lanes.WORK, batch=3) == ["b", "c", "d"]


def elsewhere(work):
    def run():
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)


def test_what_one_reader_has_locked_another_neither_takes_nor_waits_for(staged):
    with transaction.atomic():
        lanes.lock_due(lanes.EVENTS, columns=["id"], batch=1)
        assert elsewhere(lambda: in_lane(lanes.EVENTS)) == ["patient event"]


class Looking:
    """A publisher during whose publishing another relay looks for work."""

    def __init__(self):
        self.found = None

    def publish(self, envelopes):
        self.found = elsewhere(lambda: in_lane(lanes.WORK))
        return Published(confirmed={envelope.message_id for envelope in envelopes})


def test_rows_stay_locked_until_they_are_deleted(staged):
    """Unlocked between, they would be published by two relays."""
    publisher = Looking()
    assert relay.run_once(publisher, lane=lanes.WORK) == 1
    assert publisher.found == []
    assert in_lane(lanes.WORK) == []


class Quiet:
    """A publisher that confirms everything, or has trouble with one kind of message."""

    def __init__(self, trouble_with=None):
        self.trouble_with, self.pumped, self.published = trouble_with, [], []

    def ensure_connected(self):
        pass

    def publish(self, envelopes):
        for envelope in envelopes:
            if self.trouble_with in {envelope.routing_key, envelope.exchange}:
                raise BrokerUnavailable("test")
        self.published += [envelope.routing_key for envelope in envelopes]
        return Published(confirmed={envelope.message_id for envelope in envelopes})

    def pump(self, seconds, **_):
        self.pumped.append(seconds)

    def close(self):
        self.published.append("closed")


@pytest.mark.parametrize("trouble_with", ["payments.events", "notifications"])
def test_trouble_of_either_lane_of_the_announcer_is_reported_and_holds_up_no_other(staged, trouble_with):
    announcer, publisher = Quiet(trouble_with), Quiet()
    made = Relay(publisher, announcer=announcer)
    moved = made.announce()
    assert made.unannounced == "events and notifications wait: RabbitMQ: test"
    assert made.trouble == ""
    assert moved == (1 if trouble_with == "payments.events" else 2)
    assert made.announce() == 0, "it rests after trouble"
    assert made.try_once() == 1
    assert publisher.published == ["payments"]


def test_an_announcer_without_trouble_moves_events_and_what_may_wait(staged):
    announcer = Quiet()
    made = Relay(Quiet(), announcer=announcer)
    began = time.monotonic()
    assert made.announce() == 3
    assert made.announce_at == 0.0, "there may be more"
    assert made.announce() == 0
    assert made.announce_at >= began + relay.ANNOUNCE_INTERVAL > began, "it does not look all the time"
    assert made.unannounced == ""
    assert announcer.pumped == [0, 0]
    assert sorted(announcer.published) == ["notifications", "payment.created", "payment.created"]


def test_an_idle_announcer_looks_at_least_ten_times_a_second():
    assert 0 < relay.ANNOUNCE_INTERVAL <= 0.1


def test_a_relay_without_an_announcer_moves_everything_itself(staged):
    publisher = Quiet()
    made = Relay(publisher)
    assert made.announce() == 0
    assert made.try_once() == 4
    assert sorted(publisher.published) == ["notifications", "payment.created", "payment.created", "payments"]


def test_trouble_of_the_relay_is_kept_until_it_is_over(staged):
    publisher = Quiet("payments")
    made = Relay(publisher, announcer=Quiet())
    assert made.try_once() == 0
    assert made.trouble == "RabbitMQ: test"
    assert made.announce() == 0, "events wait while the relay has trouble"
    made.rest()
    assert publisher.pumped == [relay.TROUBLE_INTERVAL]
    publisher.trouble_with = None
    assert made.try_once() == 1
    assert made.trouble == ""


@pytest.mark.parametrize(
    ("returns", "seconds", "then"),
    [(0, 2, 1), (1, 4, 2), (4, 32, 5), (8, 512, 9), (9, 600, 10), (30, 600, 31), (32_767, 600, 32_767)],
)
def test_a_refused_message_waits_twice_as_long_each_time_up_to_ten_minutes(returns, seconds, then):
    records.insert(OutboxMessage, [outbox.row(queue="payments", actor="process", request_id="r", returns=returns)])
    row = OutboxMessage.objects.get()
    with transaction.atomic(), connection.cursor() as cursor:
        relay.put_back([row.pk])
        cursor.execute("SELECT available_at - now(), returns FROM messaging_outboxmessage")
        waits, counted = cursor.fetchone()
    assert round(waits.total_seconds()) == seconds
    assert counted == then


class Rounds:
    """The relay's periodic jobs: they count how often it goes round."""

    def __init__(self):
        self.count = 0

    def run_due(self):
        self.count += 1


class Silent:
    """A listener for notifications that has none, and stops the relay when it begins to wait."""

    has_heard = False

    def __init__(self, stopping):
        self.stopping = stopping

    def forget(self):
        pass

    def socket(self):
        self.stopping.set()


def test_a_relay_goes_on_while_there_is_work_and_then_waits(staged):
    """As many messages as events: their difference is not what was moved."""
    OutboxMessage.objects.exclude(request_id__in=["work", "event"]).delete()
    stopping = Event()
    publisher, announcer, rounds = Quiet(), Quiet(), Rounds()
    Relay(publisher, announcer=announcer, jobs=rounds, listener=Silent(stopping)).run(stopping)
    assert rounds.count == 2
    assert publisher.pumped == [relay.POLL_INTERVAL]
    assert publisher.published == ["payments", "closed"]
    assert announcer.published == ["payment.created", "closed"]


def test_a_relay_in_trouble_rescues_nothing_into_an_outbox_that_only_grows(staged):
    stopping = Event()
    publisher, rounds = Quiet(), Rounds()
    publisher.ensure_connected = stopping.set  # the first round is the last
    Relay(publisher, announcer=Quiet(), jobs=rounds, trouble="RabbitMQ: away").run(stopping)
    assert rounds.count == 0
