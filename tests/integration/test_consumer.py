"""A message is acknowledged when its handler has returned and never otherwise; trouble at either end only delays it."""

import os
import signal
import socket
import struct
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest
from django.db import InterfaceError, OperationalError, connection
from pika import data

from messaging import consumer as consumer_module
from messaging import topology
from messaging.consumer import Consumer, Delivery, TryAgain
from messaging.models import Heartbeat
from messaging.process import stop_on_signals
from tests.system import eventually
from tests.wire import Wire

pytestmark = pytest.mark.django_db(transaction=True)

URL = os.environ["RABBITMQ_URL"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(consumer_module, "TROUBLE_INTERVAL", 0.01)


@pytest.fixture
def channel():
    with pika.BlockingConnection(pika.URLParameters(URL)) as rabbitmq:
        yield rabbitmq.channel()


@pytest.fixture
def queues(channel):
    """Two work queues of this test's own."""
    names = [f"test-{uuid.uuid4().hex}" for _ in range(2)]
    for name, arguments in topology.declarations(names).items():
        channel.queue_declare(name, durable=True, arguments=arguments)
    yield names
    for name in topology.declarations(names):
        channel.queue_delete(name)
    for name in names:
        channel.exchange_delete(name)


@pytest.fixture
def queue(queues):
    return queues[0]


@dataclass
class Running:
    """A consumer in a thread, and what its handler saw."""

    consumer: Consumer
    seen: list[bytes] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    def await_seen(self, *bodies: bytes) -> None:
        eventually(lambda: len(self.seen) >= len(bodies), within=15, what=lambda: f"{bodies}: {self.seen}")
        assert self.seen == list(bodies)


def do_nothing(_delivery: Delivery) -> None:
    pass


@contextmanager
def consuming(
    *queues: str, act: Callable[..., object] = do_nothing, url: str = URL, stopping: Event | None = None, **fields
):
    """Inside of the block a consumer runs; `act` is its handler, once the message is in the books."""

    def handle(delivery):
        running.seen.append(delivery.body)
        running.deliveries.append(delivery)
        act(delivery)

    made = Consumer(url=url, name="test", declare=queues, read=queues, handle=handle, **fields)
    running = Running(made, stopping=stopping or Event())
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(made.run, running.stopping)
        try:
            yield running
        finally:
            running.stopping.set()
        ended.result(timeout=10)


def publish(channel, queue, *bodies, **properties):
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def waiting(channel, queue):
    """All messages that nobody has in hand, taken."""
    bodies = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        bodies.append(answer[2])
    return bodies


def test_a_message_whose_handler_did_not_return_is_never_acknowledged(channel, queue):
    """A defect ends the process, and the message goes to the next one."""

    def fail(_delivery):
        raise ZeroDivisionError

    publish(channel, queue, b"1")
    with pytest.raises(ZeroDivisionError), consuming(queue, act=fail) as running:  # raised at its end
        running.await_seen(b"1")
    assert eventually(lambda: waiting(channel, queue), within=5) == [b"1"]


@pytest.fixture
def wire():
    parameters = pika.URLParameters(URL)
    made = Wire(parameters.host, parameters.port)
    yield made
    made.close()


def through(wire):
    """The address of RabbitMQ at the other end of the wire."""
    parts = urlsplit(URL)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{wire.port}"))


def test_a_message_is_not_acknowledged_before_its_handler_returns(channel, queue, wire):
    """Its connection breaks meanwhile, and the message comes again."""
    cuts = iter([wire.cut])
    publish(channel, queue, b"1", b"2", b"3")
    with consuming(queue, url=through(wire), act=lambda _delivery: next(cuts, list)()) as running:
        running.await_seen(b"1", b"1", b"2", b"3")
        assert running.consumer.trouble == ""
    assert waiting(channel, queue) == []


def test_what_came_over_a_broken_connection_never_acknowledges_what_came_over_the_next(channel, queue, wire):
    """Delivery tags start at 1 with every channel: an old inbox would acknowledge what was never handled."""
    publish(channel, queue, b"1", b"2", b"3", b"4")
    opened = Event()

    def act(delivery):
        if delivery.body == b"1" and not opened.is_set():
            opened.set()
            wire.cut()
        elif delivery.body == b"3":
            raise TryAgain

    with consuming(queue, url=through(wire), act=act) as running:
        eventually(lambda: running.seen.count(b"3") > 2, within=15)
    assert list(dict.fromkeys(running.seen)) == [b"1", b"2", b"3"]
    assert eventually(lambda: waiting(channel, queue), within=5) == [b"3", b"4"]


def test_a_database_that_is_away_loses_no_message_and_changes_no_order(channel, queue):
    """Its session is really terminated; then it is away for three tries."""
    troubles, tries = [], []

    def act(delivery):
        tries.append(delivery.body)
        troubles.append(running.consumer.trouble)
        if len(tries) in {2, 4}:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        if len(tries) == 3:
            raise InterfaceError("connection already closed")
        with connection.cursor() as cursor:  # over a new session
            cursor.execute("SELECT 1")

    publish(channel, queue, b"1", b"2", b"3")
    with consuming(queue, act=act) as running:
        running.await_seen(b"1", b"2", b"2", b"2", b"2", b"3")
        eventually(lambda: running.consumer.trouble == "", within=5)
    assert troubles[:2] == ["", ""]
    assert all(trouble.startswith("PostgreSQL: ") for trouble in troubles[2:5]), troubles
    assert "terminating connection" in troubles[2]
    assert troubles[5] == ""
    assert waiting(channel, queue) == []


def test_a_standby_that_only_reads_ends_no_process_and_loses_no_message(channel, queue):
    """After a fail-over the old address may lead to one for a while. A hundred ends, and all would be dead."""
    tries = []

    def act(delivery):
        tries.append(delivery.body)
        with connection.cursor() as cursor:
            if len(tries) == 1:
                cursor.execute("SET default_transaction_read_only = on")
            cursor.execute("UPDATE messaging_heartbeat SET note = note")

    publish(channel, queue, b"1", b"2")
    with consuming(queue, act=act) as running:
        running.await_seen(b"1", b"1", b"2")
    assert waiting(channel, queue) == []


def test_trouble_is_told_by_the_heartbeat_and_a_stop_is_no_death(channel, queue):
    over = Event()

    def act(_delivery):
        if not over.is_set():
            raise TryAgain("later")

    publish(channel, queue, b"1")
    with consuming(queue, act=act):
        eventually(lambda: Heartbeat.objects.filter(process="test", note="later").exists(), within=15)
        over.set()
        eventually(lambda: Heartbeat.objects.filter(process="test", note="").exists(), within=15)
    assert not Heartbeat.objects.exists()


def test_a_broker_that_is_away_is_told_and_a_stop_is_heard_meanwhile():
    with consuming("none", url="amqp://guest:guest@127.0.0.1:1/%2F") as running:
        eventually(lambda: running.consumer.trouble.startswith("RabbitMQ: "), within=15)
        eventually(lambda: Heartbeat.objects.filter(process="test", note__startswith="RabbitMQ").exists(), within=15)


def test_a_broker_that_hangs_ends_no_process():
    """It takes connections and says nothing: paused, or out of breath. The relay would end with its collector."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/%2F?stack_timeout=0.2"
        with consuming("none", url=url) as running:
            eventually(lambda: "Timeout" in running.consumer.trouble, within=15)


@pytest.mark.parametrize("deleted", [0, 1])
def test_a_deleted_queue_is_declared_again_and_read(channel, queues, deleted):
    """Also when it is only one of several: the others go on, and would hide it."""
    publish(channel, queues[0], b"before")
    with consuming(*queues) as running:
        running.await_seen(b"before")
        channel.queue_delete(queues[deleted])

        def published():
            channel.confirm_delivery() if not channel._delivery_confirmation else None
            try:
                channel.basic_publish("", queues[deleted], b"after", mandatory=True)
            except (pika.exceptions.UnroutableError, pika.exceptions.NackError):  # gone, or just going
                return False
            return True

        eventually(published, within=15, what="the queue is there again")
        running.await_seen(b"before", b"after")
    assert waiting(channel, queues[deleted]) == []


def test_a_stop_finishes_the_message_in_hand_and_gives_the_others_back_in_order(channel, queue):
    def stop_at_the_second(delivery):
        if delivery.body == b"2":
            os.kill(os.getpid(), signal.SIGTERM)
            eventually(running.stopping.is_set, within=5)

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    publish(channel, queue, b"1", b"2", b"3", b"4")
    try:
        stopping = stop_on_signals()
        with consuming(queue, act=stop_at_the_second, stopping=stopping) as running:
            eventually(stopping.is_set, within=15)
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert running.seen == [b"1", b"2"]
    assert eventually(lambda: waiting(channel, queue), within=5) == [b"3", b"4"]


def test_two_consumers_share_a_queue_and_no_message_is_handled_twice(channel, queue):
    bodies = [str(number).encode() for number in range(200)]
    publish(channel, queue, *bodies)
    with consuming(queue) as one, consuming(queue) as other:
        eventually(lambda: len(one.seen) + len(other.seen) >= 200, within=30)
    assert sorted(one.seen + other.seen, key=int) == bodies
    assert waiting(channel, queue) == []


def test_no_queue_with_other_arguments_is_read(channel, queue):
    """It is told with its mend instead."""
    name = f"test-{uuid.uuid4().hex}"
    channel.queue_declare(name, durable=True)
    try:
        with consuming(name) as running:
            eventually(lambda: "delete it" in running.consumer.trouble, within=15)
    finally:
        channel.queue_delete(name)
        channel.queue_delete(topology.dead_letter_queue(name))


# --- what senders may write beside the body


def test_an_entrance_leads_to_the_queue_and_nowhere_else(channel, queue):
    with consuming(queue, entrance=queue) as running:
        eventually(Heartbeat.objects.exists, within=15)
        channel.confirm_delivery()

        def published():
            channel_ = channel.connection.channel()
            try:
                channel_.basic_publish(queue, "whatever", b"1")
            finally:
                channel_.close() if channel_.is_open else None
            return running.seen

        eventually(published, within=15)
    assert set(running.seen) == {b"1"}


class Raw(bytes):
    """A header's type and value as other clients write them, and pika cannot."""


@pytest.fixture
def _raw_headers(monkeypatch):
    encode = data.encode_value
    monkeypatch.setattr(
        data,
        "encode_value",
        lambda pieces, value: pieces.append(value) or len(value) if isinstance(value, Raw) else encode(pieces, value),
    )


@pytest.mark.usefixtures("_raw_headers")
def test_no_header_that_python_cannot_hold_ends_the_process(channel, queue):
    """Milliseconds where AMQP has seconds."""
    time = Raw(b"T" + struct.pack(">Q", 1_700_000_000_000))
    headers = {"before": "a", "when": time, "nested": {"when": time}, "list": [time, 1], "after": 7}
    publish(channel, queue, b"1", headers=headers, message_id="m", correlation_id="c")
    publish(channel, queue, b"2")
    with consuming(queue) as running:
        running.await_seen(b"1", b"2")
    first, second = running.deliveries
    assert first.headers == {"before": "a", "when": None, "nested": {"when": None}, "list": [None, 1], "after": 7}
    assert (first.message_id, first.correlation_id) == ("m", "c")
    assert (second.message_id, second.correlation_id, second.headers) == ("", "", {})


@pytest.mark.parametrize("kind", [b"A", b"F"])
@pytest.mark.usefixtures("_raw_headers")
def test_no_header_nested_deeper_than_python_recurses_stops_the_queue(channel, queue, kind):
    """Nor takes those along that were handed out with it: a hundred broken connections, and all would be dead."""
    inner = b""
    for _ in range(5000):
        inner = (b"" if kind == b"A" else b"\x01a") + kind + struct.pack(">I", len(inner)) + inner
    publish(channel, queue, b"1", headers={"deep": Raw(kind + struct.pack(">I", len(inner)) + inner), "after": 7})
    publish(channel, queue, b"2")
    with consuming(queue) as running:
        running.await_seen(b"1", b"2")
    assert running.deliveries[0].headers["after"] == 7


@pytest.mark.parametrize("seconds", [253_402_300_800, 2**63, 2**64 - 1])
def test_a_time_out_of_reach_takes_no_other_header_along(seconds):
    fields = b"\x04when" + b"T" + struct.pack(">Q", seconds) + b"\x04next" + b"t\x01"
    decoded, end = data.decode_table(struct.pack(">I", len(fields)) + fields, 0)
    assert decoded == {"when": None, "next": True}
    assert end == 4 + len(fields)


def test_ids_that_are_not_utf_8_are_made_readable():
    properties = pika.BasicProperties()
    properties.message_id, properties.correlation_id = b"\xff", None
    delivery = consumer_module.delivery_of("q", 1, properties, b"")
    assert (delivery.message_id, delivery.correlation_id) == ("\ufffd", "")


# --- many at once


def test_what_has_come_together_is_settled_together_and_the_rest_one_by_one_in_its_order(channel, queue):
    publish(channel, queue, *(b"%d" % number for number in range(10)))
    lists = []

    def together(deliveries):
        lists.append([each.body for each in deliveries])
        return {each.tag for each in deliveries if int(each.body) % 3}

    with consuming(queue, together=together) as running:
        eventually(lambda: sum(map(len, lists)) + len(running.seen) >= 10, within=15)
        eventually(lambda: not topology_depth(channel, queue), within=15)
    handled = [body for listed in lists for body in listed]
    assert len(handled) == len(set(handled)), "what was tried together is not tried together again"
    alone = [body for body in running.seen if body in handled]
    assert alone == [body for body in handled if not int(body) % 3]
    assert waiting(channel, queue) == [], "each is acknowledged"


@pytest.mark.parametrize(
    ("settled", "acknowledged", "left"),
    [
        ({1, 2, 4}, [(2, True), (4, False)], [3, 5]),
        ({1, 2, 3, 4, 5}, [(5, True)], []),
        ({2, 5}, [(2, False), (5, False)], [1, 3, 4]),
        (set(), [], [1, 2, 3, 4, 5]),
    ],
)
def test_of_a_list_only_what_is_settled_is_acknowledged(settled, acknowledged, left):
    said = []

    class Channel:
        def basic_ack(self, tag, multiple=False):
            said.append((tag, multiple))

    inbox = deque(Delivery(queue="q", body=b"", tag=tag) for tag in range(1, 6))
    consumer_module.acknowledge(inbox, settled, Channel())
    assert said == acknowledged
    assert [each.tag for each in inbox] == left


def test_what_is_left_of_a_list_is_handled_before_anything_that_comes_later(channel, queue):
    publish(channel, queue, b"0", b"1", b"2")
    order = []

    def together(deliveries):
        order.append([each.body for each in deliveries])
        return set()

    def act(delivery):
        order.append(delivery.body)
        if delivery.body == b"0":
            publish(channel, queue, b"3", b"4")

    with consuming(queue, together=together, act=act) as running:
        eventually(lambda: len(running.seen) >= 5, within=15)
    alone = [each for each in order if isinstance(each, bytes)]
    assert alone == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("error", [OperationalError("away"), InterfaceError("away")])
def test_a_list_that_fails_is_tried_one_by_one(channel, queue, error):
    publish(channel, queue, b"0", b"1", b"2")

    def together(_deliveries):
        raise error

    with consuming(queue, together=together) as running:
        running.await_seen(b"0", b"1", b"2")
    assert waiting(channel, queue) == []


def topology_depth(channel, queue):
    """Messages that are ready or in somebody's hands."""
    return channel.queue_declare(queue, passive=True).method.message_count
