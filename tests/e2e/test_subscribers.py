"""What a subscriber's queue does, or does not, is nobody's business but its own: payments go on."""

import uuid

import pika
import pytest
from django.db import transaction

from messaging import outbox
from messaging.periodic import PeriodicJobs
from messaging.publisher import ANNOUNCE_DEADLINE, RabbitPublisher
from messaging.relay import ANNOUNCE_PAUSE, Relay
from tests.announcing import announcement
from tests.outbox import announce, announcements, work
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)

#: A queue's process stops, as one without its majority does: it takes what it is given, and never confirms.
SUSPEND = """
    {ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"NAME">>)),
    sys:suspend(amqqueue:get_pid(Queue)).
"""


@pytest.fixture
def name():
    """Of the queue that hangs; who declares one that does hangs, too."""
    return f"hung-{uuid.uuid4().hex}"


@pytest.fixture
def hung(node, settings, name):
    """A node on which a subscriber's queue has hung."""
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare(settings.EVENTS_EXCHANGE, exchange_type="topic", durable=True)
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, settings.EVENTS_EXCHANGE, "#")
    node.control("eval", SUSPEND.replace("NAME", name))
    return node


@pytest.fixture
def relay(hung, settings):
    announcer = RabbitPublisher(hung.url, [], exchange=settings.EVENTS_EXCHANGE, deadline=ANNOUNCE_DEADLINE)
    made = Relay(RabbitPublisher(hung.url, ["payments"]), jobs=PeriodicJobs([]), announcer=announcer)
    yield made
    made.publisher.close()
    announcer.close()


def stage(count):
    """As many payments' messages as that, with four events each."""
    with transaction.atomic():
        for _ in range(count):
            announce(*(announcement() for _ in range(4)))
            outbox.stage("payment.due", {"ids": [str(uuid.uuid4())]})


def test_a_queue_that_never_confirms_holds_up_no_payment_and_loses_no_event(relay):
    """More events than a batch holds, and than RabbitMQ lets a connection owe."""
    stage(400)
    assert relay.try_once() == 400
    assert not work().exists()
    assert relay.announce() > 0
    assert "not confirmed" in relay.unannounced
    assert relay.announce() == 0, "it rests, or the work would wait each time"
    stage(100)
    relay.try_once()
    assert not work().exists()
    assert relay.trouble == ""
    assert announcements().count() == 4 * 500
    taken = announcements().filter(returns=1).count()
    assert taken, "they would stand before all others for ever"
    relay.announce_at -= ANNOUNCE_PAUSE
    eventually(relay.announce, within=10, what="it connects again")
    assert announcements().filter(returns=1).count() > taken


def test_a_strangers_queue_that_never_confirms_holds_up_no_notification(relay, settings, hung):
    """Each round has new events for it, and its trouble; what our own queues take goes out all the same."""
    ours = f"ours-{uuid.uuid4().hex}"
    with pika.BlockingConnection(pika.URLParameters(hung.url)) as connection:
        connection.channel().queue_declare(ours, durable=True)
    settings.PATIENT_QUEUES = [ours]
    settings.MESSAGE_ROUTES = settings.MESSAGE_ROUTES | {"delivery.message": (ours, "send_messages")}
    with transaction.atomic():
        outbox.stage("delivery.message", {"ids": [str(uuid.uuid4())]})
    eventually(lambda: settled(relay), within=15, what="the notification is published")
    assert "not confirmed" in relay.unannounced
    assert announcements().exists()


def settled(relay):
    """Whether no notification is left after one more round, before which there was one more event."""
    stage(1)
    relay.announce_at = 0.0
    relay.announce()
    return not work().filter(waits=True).exists()


def test_a_queue_of_notifications_that_never_confirms_holds_up_no_payment(relay, settings, name):
    """Nor do more of its messages than a batch holds stand before those of payments, or for ever before each other."""
    settings.PATIENT_QUEUES = [name]
    settings.MESSAGE_ROUTES = settings.MESSAGE_ROUTES | {"delivery.message": (name, "send_messages")}
    with transaction.atomic():
        outbox.stage_many("delivery.message", [({"ids": [str(uuid.uuid4())]}, "") for _ in range(700)])
        outbox.stage_many("payment.due", [({"ids": [str(uuid.uuid4())]}, "") for _ in range(50)])
    assert relay.try_once() == 50
    assert relay.trouble == ""
    assert work().count() == work().filter(waits=True).count() == 700
    assert relay.announce() == 500
    assert "not confirmed" in relay.unannounced
    assert work().filter(returns=1).count() == 500
    relay.announce_at -= ANNOUNCE_PAUSE
    eventually(relay.announce, within=10, what="it connects again")
    assert work().filter(returns__gte=1).count() == 700
    assert relay.try_once() == 0
    assert relay.trouble == ""
