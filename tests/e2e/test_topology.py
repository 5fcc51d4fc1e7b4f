"""What operators set up beforehand, and whom they let do what, stands in no process's way."""

import json
import re
import subprocess
import sys
import uuid
from io import StringIO

import pika
import pika.exceptions
import pytest
from django.core.management import call_command

from messaging import collector, topology
from messaging.broker import QuorumBroker, connection_parameters
from messaging.envelope import Envelope
from messaging.publisher import RabbitPublisher
from payments import intake
from tests.system import ROOT, eventually

DEFINITIONS = ROOT / "deploy/rabbitmq/definitions.json"
QUEUES = sorted(
    name + suffix for name in ("payments", "notifications", "webhooks", "payment_initiation") for suffix in ("", ".XQ")
)


def test_the_definitions_file_is_what_the_code_says():
    out = StringIO()
    call_command("rabbitmq_definitions", stdout=out)
    assert DEFINITIONS.read_text() == out.getvalue(), "run `manage.py rabbitmq_definitions` into it"
    assert "password" not in out.getvalue()
    assert sorted(queue["name"] for queue in json.loads(out.getvalue())["queues"]) == QUEUES


def let_declare_and_read(reader):
    """Have a consumer declare and subscribe; what RabbitMQ refuses, raises."""
    with pika.BlockingConnection(connection_parameters(reader.url, name="test")) as rabbitmq:
        reader.subscribe(rabbitmq.channel())


def test_a_node_loaded_with_the_definitions_refuses_none_of_our_declarations(node, settings):
    """With a 406, neither relay nor collector nor worker could work."""
    node.control("import_definitions", str(DEFINITIONS))
    loaded = node.control("--quiet", "list_queues", "--no-table-headers", "name").split()
    assert sorted(loaded) == QUEUES
    publisher = RabbitPublisher(node.url, topology.work_queues(), exchange=settings.EVENTS_EXCHANGE)
    publisher.ensure_connected()
    publisher.close()
    let_declare_and_read(collector.make(node.url))
    let_declare_and_read(intake.make(node.url))
    let_work(QuorumBroker(url=node.url, middleware=[]))


def let_work(broker):
    """Have a worker's broker declare, read and stop."""
    broker.declare_queue("payments")
    consumer = broker.consume("payments", timeout=100)
    assert next(consumer) is None
    consumer.close()
    broker.close()


# --- permissions


def permitted(process):
    """The three regular expressions of the manual's table."""
    row = re.search(
        rf"^\| {process}(?: \([^|]*\))? \| (.*) \|$", (ROOT / "docs/rabbitmq.md").read_text(), re.MULTILINE
    )[1]
    return [cell.strip("` ").replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)]


@pytest.fixture
def url_of(node, rabbitmq_url):
    """The address for a user of the manual, who may do what stands there."""

    def make(process):
        user = f"{process}-{uuid.uuid4().hex}"
        node.control("add_user", user, "secret")
        node.control("set_permissions", "--vhost", rabbitmq_url.rpartition("/")[2], user, *permitted(process))
        return rabbitmq_url.replace("guest:guest", f"{user}:secret")

    return make


def test_the_manuals_permissions_are_enough_for_a_relay_and_a_subscriber(url_of, settings):
    publisher = RabbitPublisher(url_of("relay"), topology.work_queues(), exchange=settings.EVENTS_EXCHANGE)
    publisher.ensure_connected()
    url = url_of("subscriber")
    argv = [sys.executable, str(ROOT / "docs/examples/subscribe.py"), url, "my-service.payments"]
    subscriber = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            eventually(lambda: listens(connection, "my-service.payments"), within=30, what="the example listens")
        work = Envelope(message_id="1", routing_key="payments", body=b"{}")
        event = Envelope(message_id="2", routing_key="payment.created", exchange=settings.EVENTS_EXCHANGE, body=b"{}")
        assert publisher.publish([work, event]).confirmed == {"1", "2"}
    finally:
        subscriber.kill()
        subscriber.communicate()
        publisher.close()


def listens(connection, queue):
    try:
        return connection.channel().queue_declare(queue, passive=True).method.consumer_count
    except pika.exceptions.ChannelClosedByBroker:
        return False


@pytest.mark.parametrize(
    ("process", "use"),
    [
        ("relay", lambda url: let_declare_and_read(collector.make(url))),
        ("intake", lambda url: let_declare_and_read(intake.make(url))),
        ("worker", lambda url: let_work(QuorumBroker(url=url, middleware=[]))),
    ],
)
def test_the_manuals_permissions_are_enough_for_who_comes_first(url_of, process, use):
    """Each on an empty virtual host: to create a queue takes more than to declare one that is there."""
    use(url_of(process))


def test_the_manuals_permissions_let_a_publisher_do_nothing_but_publish_where_it_should(url_of, rabbitmq_url, channel):
    let_declare_and_read(intake.make(rabbitmq_url))
    with pika.BlockingConnection(pika.URLParameters(url_of("publisher"))) as connection:
        publishing = connection.channel()
        publishing.confirm_delivery()
        publishing.basic_publish("payment_initiation", "", b"{}", mandatory=True)
        for forbidden in (
            lambda other: other.basic_get("payment_initiation"),
            lambda other: other.queue_delete("payment_initiation"),
            lambda other: other.basic_publish("", "payment_initiation", b"{}"),
            lambda other: other.basic_publish("", "payments", b"{}"),
        ):
            refused = connection.channel()
            refused.confirm_delivery()
            with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
                forbidden(refused)
    assert channel.queue_declare("payment_initiation", passive=True).method.message_count == 1
