"""An idle relay is woken by what was committed, and misses nothing where it hears nothing."""

import os
import select
import socket
from threading import Event, Thread

import pytest
from django.db import connection, connections, transaction

from messaging import doorbell, lanes, relay
from messaging.doorbell import Bell, Listener
from messaging.periodic import PeriodicJobs
from messaging.publisher import InProcessPublisher, Published, RabbitPublisher
from messaging.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds: far longer than anything here takes, and far shorter than a relay of these tests rests.
SOON, LONG = 20, 300


@pytest.fixture(autouse=True)
def bell(monkeypatch):
    """One that nobody has rung yet."""
    made = Bell()
    monkeypatch.setattr(doorbell, "bell", made)
    return made


@pytest.fixture
def listener():
    made = Listener()
    assert made.socket() is not None
    return made


def elsewhere(do):
    """Over a connection of its own."""

    def run():
        try:
            do()
        finally:
            connections.close_all()

    thread = Thread(target=run)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()


def hears(listener, *, within):
    return bool(select.select([listener.socket()], [], [], within)[0])


def test_an_accepted_payment_is_heard(listener, accept):
    elsewhere(accept)
    assert hears(listener, within=SOON)


def test_what_is_rolled_back_is_never_heard(listener):
    heard = []
    connection.connection.add_notify_handler(lambda notice: heard.append(notice.payload))
    elsewhere(lambda: ring("rolled back", rollback=True))
    elsewhere(lambda: ring("committed"))  # after the other one, had that been sent
    assert hears(listener, within=SOON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert heard == ["committed"]


def ring(said="", *, rollback=False):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [doorbell.CHANNEL, said])
        transaction.set_rollback(rollback)


def test_a_process_never_rings_for_each_of_many(bell):
    bell.pause = LONG
    assert [bell.rings() for _ in range(100)] == [True, *[False] * 99]
    bell.silent_until = 0.0
    assert bell.rings()


def test_a_new_connection_is_listened_to_as_well(listener, accept):
    connection.close()
    assert listener.socket() is not None
    elsewhere(accept)
    assert hears(listener, within=SOON)


def test_notices_are_never_kept_over_a_connection_that_nobody_listens_over():
    """A pooler may send them to anybody."""
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {doorbell.CHANNEL}")  # as somebody before us behind the pooler
        elsewhere(ring)
        assert select.select([connection.connection.fileno()], [], [], SOON)[0]
        cursor.execute("SELECT 1")
    assert not connection.connection._notifies_backlog
    connection.close()


def cannot_listen():
    connection.cursor().execute("SELECT 1 / 0")


def is_lost():
    connection.connection.close()
    connection.connection.fileno()


@pytest.mark.parametrize("trouble", [cannot_listen, is_lost])
def test_a_relay_that_cannot_listen_still_looks(trouble, accept, monkeypatch):
    publisher, stopping = Recorder(), Event()
    deaf = Relay(publisher, PeriodicJobs([]))
    monkeypatch.setattr(deaf.listener, "listen", trouble)
    thread = Thread(target=run_and_close, args=(deaf, stopping), daemon=True)
    thread.start()
    assert publisher.rests.wait(SOON)
    elsewhere(accept)
    assert publisher.came.wait(SOON)
    stopping.set()
    thread.join(SOON)
    assert not thread.is_alive()


def test_a_connection_that_is_lost_is_none_to_listen_to(listener):
    connection.connection.close()
    assert listener.socket() is None
    connection.close()
    assert listener.socket() is not None


def test_what_rings_while_the_relay_looks_is_not_slept_over(listener):
    elsewhere(ring)
    assert hears(listener, within=SOON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")  # takes it along
    assert listener.has_heard
    waiting = Relay(Recorder(), listener=listener)
    waiting.rest()
    assert not waiting.publisher.rests.is_set()
    listener.forget()
    waiting.rest()
    assert waiting.publisher.rests.is_set()


def test_who_finds_somebody_ringing_does_not_ring(listener, accept):
    """Commits that notify wait for each other, and a disk that hangs would hang them all."""
    heard = []
    connection.connection.add_notify_handler(lambda notice: heard.append(notice.payload))
    holds, go = Event(), Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [doorbell.LOCK])
            holds.set()
            assert go.wait(SOON)

    thread = Thread(target=lambda: elsewhere(hold))
    thread.start()
    assert holds.wait(SOON)
    elsewhere(accept)
    go.set()
    thread.join(SOON)
    elsewhere(lambda: ring("last"))
    assert hears(listener, within=SOON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert heard == ["last"]


@pytest.mark.parametrize("kind", ["RabbitMQ", "RabbitMQ, not connected yet", "in process"])
def test_a_publisher_rests_no_longer_than_until_there_is_something_to_read(kind):
    publisher = InProcessPublisher()
    if kind != "in process":
        publisher = RabbitPublisher(os.environ["RABBITMQ_URL"], ["payments"])
    if kind == "RabbitMQ":
        publisher.ensure_connected()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"!")
        rested = Thread(target=publisher.pump, args=[LONG], kwargs={"or_read": ours.fileno()}, daemon=True)
        rested.start()
        rested.join(SOON)
        assert not rested.is_alive()
    publisher.pump(0.001)  # and rests as before
    publisher.close()


def run_and_close(relay_, stopping):
    try:
        relay_.run(stopping)
    finally:
        connections.close_all()


class Recorder(InProcessPublisher):
    """Takes all messages, and tells."""

    def __init__(self):
        self.rests, self.came = Event(), Event()

    def publish(self, messages):
        self.came.set()
        return Published(confirmed={message.message_id for message in messages})

    def pump(self, seconds, *, or_read=None):
        self.rests.set()
        super().pump(seconds, or_read=or_read)


def test_a_relay_that_rests_is_woken_by_an_accepted_payment(monkeypatch, accept):
    monkeypatch.setattr(relay, "POLL_INTERVAL", LONG)
    publisher, stopping = Recorder(), Event()
    thread = Thread(target=run_and_close, args=(Relay(publisher, PeriodicJobs([])), stopping), daemon=True)
    thread.start()
    assert publisher.rests.wait(SOON)
    elsewhere(accept)
    assert publisher.came.wait(SOON)
    stopping.set()
    for _ in range(SOON * 10):  # it may just have looked
        elsewhere(ring)
        thread.join(0.1)
        if not thread.is_alive():
            break
    assert not thread.is_alive()
    assert not lanes.is_due(lanes.WORK)
