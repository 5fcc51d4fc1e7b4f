"""Messages on their whole way, while PostgreSQL crashes; and who may send them."""

import pika
import pika.exceptions
import pytest

from tests.system import eventually

QUEUE = "payment_initiation"


def test_what_was_asked_for_by_message_is_charged_once(system, full):
    """With the database crashing meanwhile: the message waits, in its place, and is no dead letter."""
    count = 400 if full else 40
    publish = ["publish_payment", "--count", str(count), "--order-id", "charged", "--idempotency-key", "charged"]
    for name in ("intake", "relay", "worker"):
        system.start(name)
    system.manage(*publish)
    system.crash_postgres()
    system.manage(*publish)
    system.start_postgres()
    asked = "SELECT id::text FROM payments_payment WHERE order_id LIKE 'charged-%%'"
    eventually(lambda: len(system.query(asked)) == count, within=90, what="all payments are accepted")
    ids = [row["id"] for row in system.query(asked)]
    assert system.await_final(ids, within=120) == {"succeeded": count}
    eventually(lambda: system.depth(QUEUE) == 0, within=30, what="the queue is empty")
    assert system.query("SELECT FROM messaging_deadletter") == []
    system.verify(ids)


def test_a_user_of_the_entrance_can_write_to_no_other_queue(system):
    """As docs/messages.md says; by the default exchange one permission would open all queues."""
    system.start("intake")
    eventually(lambda: QUEUE in system.rabbitmq.control("list_exchanges", "name"), within=30)
    system.rabbitmq.control("add_user", "shop", "only-for-tests")
    system.rabbitmq.control("set_permissions", "shop", "", f"^{QUEUE}$", "")
    parameters = pika.URLParameters(system.rabbitmq.url)
    parameters.credentials = pika.PlainCredentials("shop", "only-for-tests")
    with pika.BlockingConnection(parameters) as connection:
        body = b'{"idempotency_key": "by-the-entrance", "amount": 10, "order_id": "by-the-entrance"}'
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(QUEUE, "", body, mandatory=True)
        paid = "SELECT id FROM payments_payment WHERE order_id = 'by-the-entrance'"
        eventually(lambda: system.query(paid), within=30, what="the payment is accepted")
        for exchange, routing_key in (("", "payments"), ("", QUEUE), ("amq.direct", QUEUE)):
            other = connection.channel()
            other.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                other.basic_publish(exchange, routing_key, b"{}")
