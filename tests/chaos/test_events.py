"""Other systems hear of every event at least once, and of nothing that never was, whatever crashes on the way."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pika
import pytest

from messaging.failpoints import EXIT_STATUS
from tests.chaos.load import load
from tests.events_schema import complaints
from tests.system import eventually

EXCHANGE = "payments.events"


@pytest.fixture
def queue(system):
    """A durable queue of a subscriber, bound before anything happens."""
    name = f"subscriber-{uuid.uuid4().hex}"
    with pika.BlockingConnection(pika.URLParameters(system.rabbitmq.url)) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(name, EXCHANGE, "#")
    return name


def heard(system, queue):
    """All bodies that wait for the subscriber, taken."""
    bodies = []
    with pika.BlockingConnection(pika.URLParameters(system.rabbitmq.url)) as connection:
        channel = connection.channel()
        while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
            method, properties, body = answer
            event = json.loads(body)
            assert (properties.message_id, method.routing_key) == (event["id"], event["type"])
            bodies.append(body)
    return bodies


def assert_all_was_heard(system, bodies, since):
    """Each event that was written, with its own words, and no other; returns how many came again."""
    rows = system.query(
        "SELECT id::text, type, payment_id::text, version, snapshot FROM payments_paymentevent WHERE created_at > %s",
        since,
    )
    written = {row["id"]: (row["type"], row["payment_id"], row["version"], row["snapshot"]["status"]) for row in rows}
    told = {}
    for body in set(bodies):
        event = json.loads(body)
        assert event["id"] not in told, "one id, two events"
        assert complaints(body) == []
        told[event["id"]] = (event["type"], event["subject"], event["version"], event["data"]["status"])
    assert {id_ for id_ in told if id_ not in written} == set(), "told of what never was"
    assert {id_ for id_ in written if id_ not in told} == set(), "an event that nobody heard of"
    assert told == written
    return len(bodies) - len(told)


@contextmanager
def conflicts(system, ids):
    """All the while, others want orders that are taken: their payments are written, and rolled back."""
    stop, refused = threading.Event(), []

    def run():
        while not stop.wait(0.02):
            taken = system.query("SELECT order_id FROM payments_payment WHERE holds_order ORDER BY id DESC LIMIT 1")
            for row in taken:
                answer = system.insist(uuid.uuid4().hex, order_id=row["order_id"], payment_method="pm_declined")
                (refused if answer.status_code == 409 else ids).append(answer.json().get("id"))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield refused
        finally:
            stop.set()
        running.result()


def await_death(process):
    eventually(lambda: process.pid is None, within=60, what=f"{process.name} dies at its failpoint")
    assert process.child.returncode == EXIT_STATUS, process.last_words()


def test_every_event_is_heard_of_and_none_that_never_was(system, queue, rounds, dice):
    """Relays die between publish and delete, workers between an event and its commit; connections are cut."""
    since = system.query("SELECT now()")[0]["now"]
    extra = []
    with load(system, f"events-{queue}", dice) as clients, conflicts(system, extra) as refused:
        for _ in range(rounds):
            relay = system.start("relay", FAILPOINTS=f"relay.announced:{dice.randint(1, 8)}")
            worker = system.start("worker", FAILPOINTS=f"event.written:{dice.randint(1, 8)}")
            await_death(relay)
            system.start("relay")
            await_death(worker)
            system.rabbitmq.control("close_all_connections", "test")
            system.kill("relay")
        system.start("relay")
        system.start("worker")
        eventually(lambda: len(refused) >= 3, within=60, what="others want orders that are taken")
    ids = clients.ids + [id_ for id_ in extra if id_]
    system.await_final(ids, within=90)
    system.verify(ids)
    again = assert_all_was_heard(system, heard(system, queue), since)
    assert again >= rounds, "the kills did not hit what they aimed at"
