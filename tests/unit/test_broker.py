"""What the broker adds to Dramatiq's: queues that lose nothing, and acknowledgements that hit no other message."""

from types import SimpleNamespace

import dramatiq
import pika
import pika.exceptions
import pytest
from dramatiq import Message
from dramatiq.errors import ConnectionClosed

from messaging.broker import QuorumBroker, StampingConsumer, connection_parameters
from messaging.topology import DEAD_LETTER_DELIVERY_LIMIT, DELIVERY_LIMIT, declarations, queue_arguments
from tests.hostile_messages import FAR_ETA_MS, body_of, envelope


def test_dead_lettering_never_falls_back_to_at_most_once():
    """RabbitMQ does so, silently, unless a quorum queue's overflow is `reject-publish`."""
    arguments = queue_arguments("payments")
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("", "payments.XQ")


def test_a_poisonous_message_does_not_go_round_for_ever():
    assert queue_arguments("payments")["x-delivery-limit"] == DELIVERY_LIMIT > 0


def test_no_queue_has_rabbitmqs_own_delivery_limit():
    """It is 20 from 4.0 on; behind a dead-letter queue there is nothing, and what reaches it there is gone."""
    limits = {name: arguments["x-delivery-limit"] for name, arguments in declarations(["payments"]).items()}
    assert limits == {"payments": DELIVERY_LIMIT, "payments.XQ": DEAD_LETTER_DELIVERY_LIMIT}
    assert DEAD_LETTER_DELIVERY_LIMIT >= 1_000_000


def test_a_silent_broker_never_blocks_us_for_ever():
    parameters = connection_parameters("amqp://guest:guest@localhost/%2F", name="test")
    assert 0 < parameters.heartbeat <= 60
    assert 0 < parameters.blocked_connection_timeout <= 30
    assert 0 < parameters.socket_timeout <= 10


def test_no_delayed_message_sits_in_a_workers_memory():
    broker = QuorumBroker(url="amqp://localhost", middleware=[])
    message = Message(queue_name="payments", actor_name="a", args=(), kwargs={}, options={})
    with pytest.raises(ValueError, match="outbox"):
        broker.enqueue(message, delay=1)
    broker.declare_queue("payments")
    assert broker.get_declared_queues() == {"payments"}
    assert broker.get_declared_delay_queues() == set()


class Connection:
    """Keeps what was asked of the connection's thread."""

    def __init__(self):
        self.asked = []

    def add_callback_threadsafe(self, callback):
        self.asked.append((callback.func, *callback.args, callback.keywords))


@pytest.fixture
def consumer():
    """A consumer that was never connected, with one message waiting under delivery tag 7."""
    return consumer_of(body_of(envelope()))


def consumer_of(body):
    method = SimpleNamespace(redelivered=False, delivery_tag=7)
    consumer = StampingConsumer.__new__(StampingConsumer)
    consumer.stamp = next(StampingConsumer.stamps)
    consumer.queue_name = "payments"
    consumer.connection = Connection()
    consumer.channel = SimpleNamespace(basic_ack=lambda tag: tag, basic_nack=lambda tag, **_: tag)
    consumer.known_tags = set()
    consumer.iterator = iter([(method, pika.BasicProperties(), body), (None, None, None)])
    consumer.logger = dramatiq.get_logger("test")
    return consumer


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_message_of_this_connection_is_acknowledged(consumer, verb):
    message = next(consumer)
    getattr(consumer, verb)(message)
    ((function, tag, _),) = consumer.connection.asked
    assert (function, tag) == (getattr(consumer.channel, f"basic_{verb}"), 7)
    assert consumer.known_tags == set()


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_message_of_an_earlier_connection_never_acknowledges_another(consumer, verb):
    """The message now known under the same number was never executed."""
    stale = SimpleNamespace(consumer_stamp=consumer.stamp - 1, _tag=7, message_id="stale")
    next(consumer)
    getattr(consumer, verb)(stale)
    assert consumer.connection.asked == []
    assert consumer.known_tags == {7}


@pytest.mark.parametrize(
    "fields",
    [{"queue_name": "nobodys"}, {"options": {"eta": FAR_ETA_MS}}, {"options": {"throws": "x"}}, {"options": 7}],
    ids=str,
)
def test_a_message_that_dramatiq_could_not_bear_is_rejected_before_it_is_decoded(fields):
    consumer = consumer_of(body_of(envelope(**fields)))
    assert next(consumer) is None
    assert consumer.connection.asked == [(consumer.channel.basic_nack, 7, {"requeue": False})]
    assert consumer.known_tags == set()


def test_a_queue_that_is_gone_is_declared_again(consumer):
    def gone():
        raise pika.exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no queue")
        yield

    consumer.iterator, consumer.broker = gone(), QuorumBroker(url="amqp://localhost", middleware=[])
    with pytest.raises(ConnectionClosed):
        next(consumer)
    assert consumer.broker.queues_pending == {"payments"}


def test_an_idle_queue_hands_out_nothing(consumer):
    next(consumer)
    assert next(consumer) is None


def test_no_two_consumers_have_the_same_stamp(monkeypatch):
    monkeypatch.setattr("dramatiq.brokers.rabbitmq._RabbitmqConsumer.__init__", lambda _consumer: None)
    assert StampingConsumer().stamp != StampingConsumer().stamp
