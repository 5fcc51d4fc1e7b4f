"""What other systems hear: every event once written, valid by the published schema, and nothing that stays at home."""

import json
import os
import subprocess
import sys
import uuid
from datetime import timedelta

import dramatiq
import pika
import pytest
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from dramatiq.brokers.stub import StubBroker

from messaging import relay
from messaging.models import DeadLetter, OutboxMessage
from messaging.publisher import BrokerUnavailable, InProcessPublisher, RabbitPublisher
from messaging.relay import run_once
from payments import transitions
from payments.events import EventType
from payments.gateways.base import Approved, Declined
from payments.models import Payment, PaymentEvent
from payments.operations.claims import lock_payment
from payments.reads import timestamp
from payments.states import Status
from payments.velocity import blocks_in_force
from tests.announcing import announcement
from tests.claiming import claim_one, settle_one
from tests.events_schema import SCHEMA, complaints
from tests.hostile_messages import FAR_ETA_MS, body_of, envelope
from tests.outbox import announce, announcements, work
from tests.system import ROOT, eventually

pytestmark = pytest.mark.django_db(transaction=True)
#: See tests/doors.py.
BOTH_DOORS = True

URL = os.environ["RABBITMQ_URL"]
CANARY = "canary-4f1c"


def documents():
    return [json.loads(bytes(row.body)) for row in announcements()]


def moved(payment, *states, **changes):
    """Take a payment along these states."""
    for state in states:
        with transaction.atomic():
            locked = lock_payment(payment.pk).payment
            transitions.move(locked, state, now=timezone.now(), **changes)
    return locked


# --- what is announced


def test_no_event_is_written_without_its_announcement_and_none_is_invented(accept, sandbox):
    first, second = accept("k1"), accept("k2")
    settle_one(claim_one(first.pk), Approved(reference="r"))
    settle_one(claim_one(second.pk), Declined(reference="r", decline_code="do_not_honor", detail="no"))
    written = list(PaymentEvent.objects.order_by("created_at", "id").values_list("id", "type"))
    assert [(row.message_id, row.queue) for row in announcements()] == written
    assert len(written) == 6


def test_a_change_that_is_rolled_back_is_not_announced(accept):
    payment = accept()
    with transaction.atomic():
        transitions.move(lock_payment(payment.pk).payment, Status.PROCESSING, now=timezone.now())
        assert len(announcements()) == 2
        transaction.set_rollback(True)
    assert [document["type"] for document in documents()] == ["payment.created"]


def test_a_refused_payment_is_not_announced(post):
    assert post({"amount": "1.00", "order_id": "o-1"}, key="k1").status_code == 202
    assert post({"amount": "1.00", "order_id": "o-1"}, key="k2").status_code == 409
    assert post({"amount": "1.00", "order_id": "o-1"}, key="k1").status_code == 202
    assert len(documents()) == 1


def test_every_type_of_event_keeps_to_the_published_schema(accept):
    rescue = {"revive_at": timezone.now() + timedelta(minutes=1)}
    died = {"error_code": "retries_exhausted", "holds_order": False}
    back = {**rescue, "holds_order": True, "finished_at": None, "error_code": ""}
    taken = {"amount_captured": 1000}
    moved(accept("k1"), Status.PROCESSING)
    moved(accept("k2"), Status.CANCELED, holds_order=False)
    lost = moved(accept("k3"), Status.PROCESSING, Status.UNKNOWN, **rescue)
    with transaction.atomic():
        transitions.flag_for_review(lock_payment(lost.pk).payment, now=timezone.now())
    held = moved(accept("k4"), Status.PROCESSING, Status.AUTHORIZED, **rescue)
    moved(held, Status.SUCCEEDED, **taken)
    failed = moved(accept("k5", user_id="u", order_id="o"), Status.PROCESSING)
    moved(moved(failed, Status.FAILED, **died), Status.PENDING, **back)
    assert {document["type"] for document in documents()} == set(EventType)
    assert {row.queue: complaints(bytes(row.body)) for row in announcements()} == {kind: [] for kind in EventType}


@pytest.mark.parametrize(
    ("amount", "currency", "told"), [(1000, "JPY", "1000"), (1234, "EUR", "12.34"), (5, "KWD", "0.005")]
)
def test_an_amount_is_never_told_as_a_float(accept, amount, currency, told):
    accept(amount=amount, currency=currency)
    (row,) = announcements()
    assert complaints(bytes(row.body)) == []
    assert json.loads(bytes(row.body))["data"]["amount"] == told


def test_an_event_says_what_the_api_says_of_it(accept):
    payment = accept(order_id="o-1", user_id="u-1")
    event = payment.events.get()
    (document,) = documents()
    data = document.pop("data")
    assert document == {
        "specversion": "1.0",
        "id": str(event.pk),
        "source": "/payments",
        "type": "payment.created",
        "subject": str(payment.pk),
        "time": timestamp(event.created_at),
        "datacontenttype": "application/json",
        "dataschema": "urn:payments:schema:payment:1",
        "merchant": "shop",
        "mode": "test",
        "version": 1,
    }
    assert data.pop("version") == 1
    assert data == {name: event.snapshot[name] for name in data}
    assert (data["order_id"], data["user_id"], data["last_error"]) == ("o-1", "u-1", None)


def test_what_people_wrote_never_leaves_the_house(accept):
    """Whatever is added to the API's shape of a payment, until somebody names it in `cloud_events.SHARED`."""
    payment = accept(
        description=f"{CANARY} for Ada Lovelace",
        metadata={CANARY: CANARY},
        payment_method=f"pm_{CANARY}",
        webhook_url=f"https://{CANARY}.example/hook",
    )
    settle_one(claim_one(payment.pk), Declined(reference=f"ch_{CANARY}", decline_code="do_not_honor", detail=CANARY))
    assert CANARY in json.dumps(PaymentEvent.objects.get(version=3).snapshot), "the canary sings in the API"
    assert len(announcements()) == 3
    for row in announcements():
        assert CANARY not in f"{bytes(row.body)} {row.options} {row.payload} {row.request_id} {row.queue}"
    assert documents()[-1]["data"]["last_error"] == {"code": "declined", "decline_code": "do_not_honor"}


def test_an_event_costs_one_statement_and_asks_for_no_merchant(accept, sandbox, django_assert_num_queries):
    """All of them on the way of a payment: BEGIN and COMMIT, and what changes with its event and its announcement. A
    claim and a settlement lock the payment and write an attempt besides.
    """
    blocks_in_force.renew()  # once a second
    with django_assert_num_queries(5):  # and the notification, and one more by the fixture, to read the payment
        payment = accept(order_id="o-1")
    with django_assert_num_queries(5):
        claim = claim_one(payment.pk)
    with django_assert_num_queries(5):
        settle_one(claim, Approved(reference="r"))


# --- how it goes out


@pytest.fixture
def exchange(settings):
    settings.EVENTS_EXCHANGE = f"test.{uuid.uuid4().hex}"
    return settings.EVENTS_EXCHANGE


@pytest.fixture
def channel(exchange):
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        yield channel
        channel.exchange_delete(exchange)


@pytest.fixture
def queue(exchange, settings):
    """A work queue of the test's own."""
    name = f"test-{uuid.uuid4().hex}"
    settings.MESSAGE_ROUTES = settings.MESSAGE_ROUTES | {"payment.due": (name, "process_payments")}
    yield name
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        for made in (name, f"{name}.XQ"):
            connection.channel().queue_delete(made)


@pytest.fixture
def publisher(queue, exchange, channel):
    made = RabbitPublisher(URL, [queue], exchange=exchange)
    made.ensure_connected()
    yield made
    made.close()


@pytest.fixture
def subscribe(publisher, channel, exchange):
    """Bind a queue, for the life of the test."""

    def do(pattern="payment.#", **arguments):
        name = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
        channel.queue_bind(name, exchange, pattern)
        return name

    return do


def taken(channel, queue):
    """Properties and body of all messages in the queue, which is then empty."""
    found = []
    while (answer := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(answer)
    return found


def due_in(messages):
    """The payments that some messages to a worker are about."""
    return [id_ for _, _, body in messages for id_ in json.loads(body)["kwargs"]["ids"]]


def test_a_subscriber_gets_what_it_asked_for_and_can_know_it_again(accept, publisher, subscribe, channel):
    everything, final = subscribe(), subscribe("payment.succeeded")
    payment = accept()
    settle_one(claim_one(payment.pk), Approved(reference="r"))
    run_once(publisher)
    assert not work().exists()
    assert not announcements().exists()
    (answer,) = taken(channel, final)
    method, properties, body = answer
    event = payment.events.get(type="payment.succeeded")
    assert (method.routing_key, json.loads(body)["id"]) == ("payment.succeeded", str(event.pk))
    assert (properties.message_id, properties.content_type) == (str(event.pk), "application/cloudevents+json")
    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert properties.headers == {"request_id": "request-key-1"}
    kinds = [method.routing_key for method, _, _ in taken(channel, everything)]
    assert kinds == ["payment.created", "payment.processing", "payment.succeeded"]


def test_events_that_nobody_listens_to_do_not_pile_up(accept, publisher):
    accept()
    assert run_once(publisher) == 2
    assert not work().exists()
    assert not announcements().exists()


def test_an_event_that_goes_out_again_is_the_same_event(accept, publisher, subscribe, channel, monkeypatch):
    listening = subscribe()
    accept()

    def crash(name):
        raise RuntimeError("power cut")

    monkeypatch.setattr(relay, "failpoint", crash)
    with pytest.raises(RuntimeError):
        run_once(publisher)
    monkeypatch.undo()
    run_once(publisher)
    (_, first, body), (_, second, same_body) = taken(channel, listening)
    assert (first.message_id, body) == (second.message_id, same_body)


def test_a_deleted_exchange_is_declared_again_and_loses_no_event_and_no_payment(
    accept, publisher, queue, exchange, subscribe, channel
):
    """RabbitMQ closes the channel at the first event, with whatever came after it in the batch."""
    channel.exchange_delete(exchange)
    for number in range(10):
        accept(f"key-{number}")
    run_once(publisher)
    assert announcements().count() == 10, "an event is lost"
    with pytest.raises(BrokerUnavailable, match="no exchange"):
        publisher.ensure_connected()
    publisher.ensure_connected()
    listening = subscribe()
    run_once(publisher)
    assert not work().exists()
    assert not announcements().exists()
    ids = [properties.message_id for _, properties, _ in taken(channel, listening)]
    assert sorted(ids) == sorted(str(pk) for pk in PaymentEvent.objects.values_list("pk", flat=True))
    due = due_in(taken(channel, queue))
    assert set(due) == {str(pk) for pk in Payment.objects.values_list("pk", flat=True)}
    assert len(due) <= 20, "at most the one batch goes out twice"


def test_a_full_queue_of_a_subscriber_holds_up_no_payment(accept, publisher, queue, subscribe, channel):
    """It rejects what it is given; that waits, and all else goes on over the same connection."""
    full = subscribe(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    connection = publisher._connection
    for number in range(3):
        accept(f"key-{number}")
    run_once(publisher)
    assert not work().exists()
    assert [row.returns for row in announcements()] == [1, 1]
    publisher.ensure_connected()
    assert publisher._connection is connection
    assert len(due_in(taken(channel, queue))) == 3
    channel.queue_purge(full)
    announcements().update(available_at=Now())
    run_once(publisher)
    assert announcements().count() == 1


# --- the example in the documentation


def is_consumed(connection, queue):
    try:
        return connection.channel().queue_declare(queue, passive=True).method.consumer_count
    except pika.exceptions.ChannelClosedByBroker:
        return False


@pytest.fixture
def example(tmp_path):
    """`docs/examples/subscribe.py` as its own process, on the real exchange; the file of what it prints."""
    queue, printed = f"test-{uuid.uuid4().hex}", tmp_path / "printed"
    publisher = RabbitPublisher(URL, [], exchange=settings.EVENTS_EXCHANGE)
    publisher.ensure_connected()
    argv = [sys.executable, str(ROOT / "docs/examples/subscribe.py"), URL, queue]
    with printed.open("w") as file, pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        subscriber = subprocess.Popen(argv, stdout=file, stderr=file)
        try:
            eventually(lambda: is_consumed(connection, queue), within=30, what=printed.read_text)
            yield publisher, printed
        finally:
            subscriber.terminate()
            subscriber.wait()
            publisher.close()
            connection.channel().queue_delete(queue)


def test_the_example_prints_each_event_once_though_it_comes_twice(accept, example):
    publisher, printed = example
    payment = accept(amount=1234)
    settle_one(claim_one(payment.pk), Approved(reference="r"))
    created, processing, succeeded = [relay.to_envelope([row]) for row in announcements()]
    publisher.publish([created, processing, created, processing, succeeded])
    eventually(lambda: f"payment.succeeded {payment.pk}" in printed.read_text(), within=30, what=printed.read_text)
    told = [line for line in printed.read_text().splitlines() if str(payment.pk) in line]
    kinds = ("payment.created", "payment.processing", "payment.succeeded")
    assert told == [f"{kind} {payment.pk} 12.34 EUR" for kind in kinds]


DOCUMENTATION = (ROOT / "docs/events.md").read_text()


def test_the_documentation_shows_the_example_as_it_is():
    assert f"```python\n{(ROOT / 'docs/examples/subscribe.py').read_text()}```" in DOCUMENTATION


def test_the_documentation_knows_every_type_and_every_field():
    fields = {*SCHEMA["properties"], *SCHEMA["$defs"]["payment"]["properties"]}
    assert [name for name in [*EventType, *fields] if f"`{name}`" not in DOCUMENTATION] == []


def test_the_event_in_the_documentation_is_one():
    event = DOCUMENTATION.partition("```json\n")[2].partition("```")[0]
    assert complaints(event.encode()) == []


# --- without RabbitMQ


@pytest.fixture
def memory():
    """Dramatiq's broker in this process, in place of RabbitMQ."""
    broker, real = StubBroker(middleware=[]), dramatiq.get_broker()
    broker.declare_queue("payments")
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(real)


def test_without_rabbitmq_events_neither_pile_up_nor_hold_up_payments(accept, memory):
    payment = accept()
    run_once(InProcessPublisher())
    assert not work().exists()
    assert not announcements().exists()
    (message,) = [dramatiq.Message.decode(memory.queues["payments"].get_nowait())]
    assert message.kwargs == {"ids": [str(payment.pk)]}


def test_without_rabbitmq_an_event_is_never_taken_for_a_message_to_an_actor(memory):
    """Even when its type has the name of a queue."""
    announce(announcement(kind="payments"))
    run_once(InProcessPublisher())
    assert not announcements().exists()
    assert memory.queues["payments"].empty()


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"actor": "handle_gateway_events", "payload": {"ids": ["x"]}}, "ids_invalid"),
        ({"actor": "process_payments", "payload": {"ids": ["x"]}, "options": {"escapes": 1}}, "ids_invalid"),
        ({"actor": "of_tomorrow", "payload": {"ids": [1]}}, "unknown_actor"),
        ({"actor": "", "body": b"no message"}, "undecodable"),
        ({"actor": "", "body": body_of(envelope(queue_name="webhooks"))}, "wrong_queue"),
        ({"actor": "", "body": body_of(envelope(options={"eta": FAR_ETA_MS}))}, "option_not_allowed"),
    ],
    ids=["gateway event id", "payment id", "actor", "no message", "queue", "eta"],
)
def test_without_rabbitmq_what_no_worker_accepts_is_a_dead_letter_and_stops_nothing(accept, memory, row, cause):
    """There is no dead-letter queue in memory: it would be lost, or end the relay again and again."""
    OutboxMessage.objects.create(queue="payments", **row)
    payment = accept()
    run_once(InProcessPublisher())
    assert not work().exists()
    (message,) = [dramatiq.Message.decode(memory.queues["payments"].get_nowait())]
    assert message.kwargs == {"ids": [str(payment.pk)]}
    assert memory.queues["payments"].empty()
    assert DeadLetter.objects.get().cause == cause
