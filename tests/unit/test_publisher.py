"""What RabbitMQ says of a message decides whether it counts as published."""

from types import SimpleNamespace

import pytest
from pika.spec import Basic

from messaging import topology
from messaging.publisher import RabbitPublisher


@pytest.fixture
def publisher():
    """A publisher that was never connected, with two messages on the way."""
    made = RabbitPublisher("amqp://localhost", ["payments"])
    made._unconfirmed = {1: "first", 2: "second"}
    made._until = lambda: False
    return made


def test_a_message_that_rabbitmq_rejects_is_never_taken_for_published(publisher):
    """As a full queue does, whose overflow is `reject-publish`."""
    publisher._on_confirm(SimpleNamespace(method=Basic.Nack(delivery_tag=1)))
    publisher._on_confirm(SimpleNamespace(method=Basic.Ack(delivery_tag=2)))
    assert (publisher._outcome.refused, publisher._outcome.confirmed) == ({"first"}, {"second"})


def test_a_confirm_of_several_confirms_no_later_one(publisher):
    publisher._on_confirm(SimpleNamespace(method=Basic.Ack(delivery_tag=1, multiple=True)))
    assert publisher._outcome.confirmed == {"first"}
    assert publisher._unconfirmed == {2: "second"}


@pytest.mark.parametrize(
    "reason",
    [
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms.",
        "PRECONDITION_FAILED - unknown delivery tag 7",
        "PRECONDITION_FAILED - message size 17000000 is larger than configured max size 16777216",
    ],
)
def test_nobody_is_told_to_delete_a_queue_for_another_reason(reason):
    """The code is the same as that of a changed declaration; a queue of messages from outside would be lost."""
    assert "delete" not in topology.explain(reason)
    assert "delete" in topology.explain("PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'payments'")
