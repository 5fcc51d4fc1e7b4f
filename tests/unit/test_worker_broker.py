"""What the worker's broker and its middleware promise to Dramatiq."""

import pytest
from dramatiq import Middleware

from messaging.broker import QuorumBroker, StampingConsumer, connection_parameters
from messaging.escapes import OUTAGE_PAUSES, Escapes
from messaging.topology import dead_letter_queue_arguments, queue_arguments


class Recording(Middleware):
    def __init__(self):
        self.calls = []

    def before_declare_queue(self, broker, queue_name):
        self.calls.append(("before", queue_name))

    def after_declare_queue(self, broker, queue_name):
        self.calls.append(("after", queue_name))


def test_middleware_is_called_once_for_each_queue_that_is_declared():
    recording = Recording()
    broker = QuorumBroker(url="amqp://localhost", middleware=[recording])
    broker.declare_queue("payments")
    broker.declare_queue("payments")
    assert recording.calls == [("before", "payments"), ("after", "payments")]
    assert broker.queues_pending == {"payments"}


@pytest.mark.parametrize("ensure", [True, False])
def test_a_queue_is_created_on_the_server_only_where_that_is_asked_for(monkeypatch, ensure):
    created = []
    monkeypatch.setattr(QuorumBroker, "_ensure_queue", lambda _self, name: created.append(name))
    broker = QuorumBroker(url="amqp://localhost", middleware=[])
    for _ in range(2):
        broker.declare_queue("payments", ensure=ensure)
    assert created == ["payments"] * 2 * ensure


def test_no_queue_is_declared_for_delayed_messages():
    broker = QuorumBroker(url="amqp://localhost", middleware=[])
    assert broker._declare_dq_queue("payments") is None
    assert broker._build_queue_arguments("payments") == queue_arguments("payments")
    assert broker.consumer_class is StampingConsumer
    assert broker.confirm_delivery is True


def test_a_dead_letter_queue_is_durable_and_has_its_own_arguments(monkeypatch):
    declared = []

    class Channel:
        def queue_declare(self, **values):
            declared.append(values)
            return "declared"

    monkeypatch.setattr(QuorumBroker, "channel", Channel())
    broker = QuorumBroker(url="amqp://localhost", middleware=[])
    assert broker._declare_xq_queue("payments") == "declared"
    assert declared == [{"queue": "payments.XQ", "durable": True, "arguments": dead_letter_queue_arguments()}]


def test_a_connection_says_what_it_is_for():
    parameters = connection_parameters("amqp://guest:guest@localhost/%2F", name="test")
    assert parameters.client_properties == {"connection_name": "test"}
    assert QuorumBroker(url="amqp://localhost", middleware=[]).parameters.client_properties == {
        "connection_name": "payments worker"
    }


def test_an_actor_can_name_exceptions_that_no_repetition_helps():
    assert Escapes().actor_options == {"throws"}


def test_waits_for_a_database_that_is_away_grow_and_end_before_rabbitmq_takes_the_message_back():
    """RabbitMQ closes the channel of a consumer that does not acknowledge for 30 minutes."""
    assert min(OUTAGE_PAUSES) > 0
    assert list(OUTAGE_PAUSES) == sorted(OUTAGE_PAUSES)
    assert 5 * 60 <= sum(OUTAGE_PAUSES) <= 15 * 60
