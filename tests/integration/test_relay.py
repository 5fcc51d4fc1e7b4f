"""Step 2: what is in the outbox reaches RabbitMQ at least once, and leaves the outbox only when it has."""

import json
import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Event

import pika
import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone
from dramatiq import Message

from messaging import outbox, relay
from messaging.models import OutboxMessage
from messaging.periodic import Job, PeriodicJobs
from messaging.publisher import BrokerUnavailable, Published, RabbitPublisher
from messaging.relay import Relay, run_once

pytestmark = pytest.mark.django_db(transaction=True)

URL = os.environ["RABBITMQ_URL"]


@pytest.fixture
def channel():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        yield connection.channel()


@pytest.fixture
def queue(channel):
    name = f"test-{uuid.uuid4().hex}"
    yield name
    channel.queue_delete(name)
    channel.queue_delete(f"{name}.XQ")


@pytest.fixture
def publisher(queue):
    made = RabbitPublisher(URL, [queue])
    made.ensure_connected()
    yield made
    made.close()


@pytest.fixture
def stage(queue, settings):
    settings.MESSAGE_ROUTES = {"test.due": (queue, "some_actor")}

    def do(count=1, **options):
        with transaction.atomic():
            outbox.stage_many("test.due", [({"ids": [str(n)]}, f"request-{n}") for n in range(count)], **options)

    return do


def drain(channel, queue):
    """All messages in the queue, taken."""
    bodies = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        bodies.append(answer[2])
    return [Message.decode(body) for body in bodies]


def test_a_due_message_is_published_whole_and_then_deleted(stage, publisher, channel, queue):
    stage()
    row = OutboxMessage.objects.get()
    assert run_once(publisher) == 1
    assert not OutboxMessage.objects.exists()
    (message,) = drain(channel, queue)
    assert (message.queue_name, message.actor_name, message.kwargs) == (queue, "some_actor", {"ids": ["0"]})
    assert message.message_id == str(row.message_id)
    assert message.options["request_id"] == "request-0"


def test_messages_on_disk_survive_a_restart_of_the_broker(stage, publisher, channel, queue):
    stage()
    run_once(publisher)
    _method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert json.loads(body)["actor_name"] == "some_actor"


def test_a_message_for_later_stays_until_its_time(stage, publisher, channel, queue):
    stage(available_at=timezone.now() + timedelta(hours=1))
    assert run_once(publisher) == 0
    OutboxMessage.objects.update(available_at=Now())
    assert run_once(publisher) == 1
    assert len(drain(channel, queue)) == 1


def test_a_large_outbox_leaves_in_batches_in_order(stage, publisher, channel, queue):
    stage(25)
    assert [run_once(publisher, batch=10) for _ in range(4)] == [10, 10, 5, 0]
    assert [message.kwargs["ids"] for message in drain(channel, queue)] == [[str(n)] for n in range(25)]


def test_a_message_that_no_queue_takes_is_kept_and_goes_out_once_there_is_one(stage, publisher, channel, queue):
    channel.queue_delete(queue)
    stage()
    run_once(publisher)
    assert OutboxMessage.objects.count() == 1, "the message is lost"
    row = OutboxMessage.objects.get()
    assert row.returns == 1
    assert row.available_at > row.created_at
    OutboxMessage.objects.update(available_at=Now())
    publisher.ensure_connected()  # declares the queue anew
    run_once(publisher)
    assert len(drain(channel, queue)) == 1


def test_a_crash_between_publish_and_delete_publishes_again_and_loses_nothing(
    stage, publisher, channel, queue, monkeypatch
):
    stage()

    def crash(name):
        raise RuntimeError("power cut")

    monkeypatch.setattr(relay, "failpoint", crash)
    with pytest.raises(RuntimeError):
        run_once(publisher)
    monkeypatch.undo()
    assert OutboxMessage.objects.count() == 1
    run_once(publisher)
    first, second = drain(channel, queue)
    assert first.message_id == second.message_id


def test_several_relays_share_the_work_and_publish_each_message_once(stage, channel, queue):
    stage(300)

    def work(_):
        publisher = RabbitPublisher(URL, [queue])
        try:
            publisher.ensure_connected()
            return sum(run_once(publisher, batch=20) for _ in range(30))
        finally:
            publisher.close()
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        moved = list(pool.map(work, range(3)))
    assert sum(moved) == 300
    ids = [message.message_id for message in drain(channel, queue)]
    assert len(ids) == len(set(ids)) == 300


def test_an_unreachable_broker_leaves_the_outbox_as_it_is(stage, queue):
    stage()
    away = RabbitPublisher("amqp://guest:guest@127.0.0.1:1/%2F", [queue])
    with pytest.raises(BrokerUnavailable):
        away.ensure_connected()
    row = OutboxMessage.objects.get()
    assert row.returns == 0


def test_a_queue_with_other_arguments_is_told_with_its_mend(channel, queue):
    channel.queue_declare(queue, durable=True)
    with pytest.raises(BrokerUnavailable, match=r"PRECONDITION_FAILED.*delete it"):
        RabbitPublisher(URL, [queue]).ensure_connected()


class ScriptedPublisher:
    """A publisher whose ends of the wire are ours: it says what RabbitMQ might."""

    def __init__(self, outcome):
        self.outcome = outcome

    def ensure_connected(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome

    def publish(self, messages):
        return self.outcome([message.message_id for message in messages])

    def pump(self, seconds):
        pass

    def close(self):
        pass


def test_only_what_was_confirmed_is_deleted(stage):
    """One confirmed, one refused, one of unknown fate."""
    stage(3)
    _first, second, third = OutboxMessage.objects.order_by("id")
    run_once(ScriptedPublisher(lambda ids: Published(confirmed={ids[0]}, refused={ids[1]})))
    left = {row.id: row.returns for row in OutboxMessage.objects.all()}
    assert left == {second.id: 1, third.id: 0}


def test_the_relay_tells_its_trouble_and_its_recovery(stage):
    stage()
    troubled = Relay(ScriptedPublisher(BrokerUnavailable("refused")), PeriodicJobs([]))
    assert troubled.try_once() == 0
    assert troubled.trouble == "RabbitMQ: refused"
    troubled.publisher = ScriptedPublisher(lambda ids: Published(confirmed=set(ids)))
    assert troubled.try_once() == 1
    assert troubled.trouble == ""


def test_staging_outside_a_transaction_is_a_defect():
    with pytest.raises(AssertionError):
        outbox.stage("payment.due", {"ids": []})


def test_a_message_that_is_refused_for_ever_waits_longer_each_time_and_stops_nothing(stage):
    """The count of refusals once overflowed its column, and with it every batch failed."""
    stage(2)
    hopeless, healthy = OutboxMessage.objects.order_by("id")
    refuse_first = ScriptedPublisher(lambda ids: Published(confirmed=set(ids[1:]), refused={ids[0]}))
    OutboxMessage.objects.filter(pk=hopeless.pk).update(returns=32_767)
    run_once(refuse_first)
    assert not OutboxMessage.objects.filter(pk=healthy.pk).exists()
    waits = []
    for returns in (0, 1, 2, 30, 32_767):
        OutboxMessage.objects.filter(pk=hopeless.pk).update(returns=returns, available_at=Now())
        run_once(ScriptedPublisher(lambda ids: Published(refused=set(ids))))
        hopeless.refresh_from_db()
        waits.append(round((hopeless.available_at - timezone.now()).total_seconds()))
    assert waits == [2, 4, 8, 600, 600]


def test_no_rescue_fills_an_outbox_that_nobody_empties():
    runs = []
    stopping = Event()

    class Stopping(ScriptedPublisher):
        def pump(self, seconds):
            stopping.set() if len(runs) == 1 and self.seen else None
            self.seen = True

        seen = False

    jobs = PeriodicJobs([Job("job", lambda: runs.append(1), 0.0)])
    Relay(Stopping(BrokerUnavailable("away")), jobs).run(stopping)
    assert runs == [1]  # before the trouble was known, and not again


def test_a_block_ends_with_the_connection_that_was_blocked(publisher):
    """An alarm, and then a restart of RabbitMQ: the relay used to wait for ever for the end of an alarm of before."""
    publisher._blocked = "low on memory"
    with pytest.raises(BrokerUnavailable, match="low on memory"):
        publisher.ensure_connected()
    publisher._connection._transport._sock.shutdown(socket.SHUT_RDWR)
    publisher.pump(20)  # until it is noticed
    with suppress(BrokerUnavailable):
        publisher.ensure_connected()
    assert publisher._ready


def test_a_connection_that_breaks_while_sending_publishes_nothing_and_is_opened_again(
    stage, publisher, channel, queue, monkeypatch
):
    stage(2)
    real, sent = publisher._channel.basic_publish, []

    def break_at_the_second(**message):
        sent.append(message)
        if len(sent) == 2:
            raise pika.exceptions.ChannelWrongStateError("Channel is closed.")
        real(**message)

    monkeypatch.setattr(publisher._channel, "basic_publish", break_at_the_second)
    with pytest.raises(BrokerUnavailable, match="Channel is closed"):
        run_once(publisher)
    assert OutboxMessage.objects.count() == 2
    publisher.ensure_connected()
    assert run_once(publisher) == 2
    assert {message.kwargs["ids"][0] for message in drain(channel, queue)} == {"0", "1"}
