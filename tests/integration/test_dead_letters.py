"""Every death is one row, whatever it was, however often it is told, and whatever became of its row since."""

import json
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta

import dramatiq
import pika
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from dramatiq import Message, MessageProxy

from messaging import collector, dead_letters, topology
from messaging.collector import collect
from messaging.consumer import Delivery
from messaging.dead_letters import MAX_REFUSED_BYTES
from messaging.escapes import Escapes, handle_escape
from messaging.models import DeadLetter, DeathCount, OutboxMessage
from messaging.payloads import arguments_of, payload_of
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
#: Ids of payments that do not exist.
SEVEN, EIGHT = (f"0190a6f0-0000-7000-8000-{number:012d}" for number in (7, 8))
REJECTED = {"x-death": [{"reason": "rejected", "count": 1, "queue": "payments"}]}


def record(**fields):
    known = {"queue": "payments", "actor": "some_actor", "cause": "ValueError", "detail": "d", "attempts": 1}
    dead_letters.record(**{**known, "first_failed_at": NOW, "now": NOW, **fields})


def message(**fields):
    values = {"queue_name": "payments", "actor_name": "process_payments", "args": (), "kwargs": {"ids": [SEVEN]}}
    return Message(**{**values, "options": {"request_id": "r-1"}, **fields})


def dead(body, queue="payments", headers=REJECTED, **fields):
    return Delivery(queue=topology.dead_letter_queue(queue), body=body, headers=headers, **fields)


# --- a row each, and one only


def test_a_death_told_twice_is_one_row_and_counts_once():
    for _ in range(2):
        record(message_id="00000000-0000-0000-0000-000000000001")
    assert DeadLetter.objects.count() == 1
    assert DeathCount.objects.get().total == 1


def test_an_old_copy_of_a_message_reopens_no_letter_and_touches_no_other(db):
    """The broker may give up a message long after its letter was replayed, and died again under another id."""
    old = message()
    record(message_id=old.message_id, subject=f"payment:{SEVEN}", actor="process_payments", payload={"ids": [SEVEN]})
    DeadLetter.objects.update(state="replayed", resolved_at=NOW)
    record(subject=f"payment:{SEVEN}", actor="process_payments", payload={"ids": [SEVEN]})
    collect(dead(old.encode()))
    assert list(DeadLetter.objects.order_by("id").values_list("state", "attempts")) == [("replayed", 1), ("open", 1)]


def test_a_second_death_names_the_letter_whose_replay_it_was():
    record(message_id="00000000-0000-0000-0000-000000000001")
    first = DeadLetter.objects.get()
    DeadLetter.objects.update(state="replayed", resolved_at=NOW)
    record(replay_of=first.pk)
    record(replay_of=first.pk + 1000)
    assert [letter.previous for letter in DeadLetter.objects.order_by("id")] == [None, first, None]


def test_counts_outlive_their_letters(db):
    for _ in range(3):
        record()
    record(cause="TypeError")
    DeadLetter.objects.update(state="discarded", resolved_at=NOW)
    DeadLetter.objects.all().delete()
    assert dict(DeathCount.objects.values_list("cause", "total")) == {"ValueError": 3, "TypeError": 1}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "é" * 5000])
def test_no_text_is_too_odd_to_be_recorded(text):
    record(detail=text, traceback=text, cause=text)
    assert DeadLetter.objects.get().detail


# --- exceptions that no repetition mends


@pytest.fixture
def picky_actor():
    broker = dramatiq.get_broker()
    broker.actors.pop("picky", None)
    yield dramatiq.actor(actor_name="picky", queue_name="payments", throws=(ValueError,))(lambda: None)
    broker.actors.pop("picky")


def failure(kind):
    try:
        raise kind("a defect")
    except kind as error:
        return error


def test_what_an_actor_throws_on_purpose_is_dead_at_once(picky_actor):
    Escapes().after_process_message(
        dramatiq.get_broker(), MessageProxy(message(actor_name="picky")), exception=failure(ValueError)
    )
    assert DeadLetter.objects.get().attempts == 1
    assert not OutboxMessage.objects.exists()


def test_everything_else_that_escapes_is_tried_again(picky_actor):
    handle_escape(MessageProxy(message(actor_name="picky")), failure(TypeError), now=NOW)
    assert not DeadLetter.objects.exists()
    assert OutboxMessage.objects.count() == 1


def test_an_unknown_actor_may_be_of_a_newer_release_and_is_tried_again_before_it_is_dead():
    unknown = message(actor_name="of_tomorrow", args=(1,), options={"replay_of": 5})
    handle_escape(MessageProxy(unknown), failure(dramatiq.ActorNotFound), now=NOW)
    row = OutboxMessage.objects.get()
    assert row.payload == {"ids": [SEVEN], "*": [1]}
    assert row.options == {"replay_of": 5, "escapes": 1, "first_failed_at": NOW.isoformat()}
    last = message(actor_name="of_tomorrow", options={"escapes": 7})
    handle_escape(MessageProxy(last), failure(dramatiq.ActorNotFound), now=NOW)
    assert DeadLetter.objects.get().cause == "ActorNotFound"


# --- what RabbitMQ gave up


def test_a_rejected_message_becomes_a_row_that_says_whom_it_concerns():
    rejected = message(options={"request_id": "r-1"})
    collect(dead(rejected.encode()))
    letter = DeadLetter.objects.get()
    assert (letter.queue, letter.actor, letter.cause) == ("payments", "process_payments", "rejected")
    assert (letter.payload, letter.subject) == ({"ids": [SEVEN]}, f"payment:{SEVEN}")
    assert (str(letter.message_id), letter.request_id) == (rejected.message_id, "r-1")


def test_each_payment_of_a_list_that_rabbitmq_gave_up_has_its_letter_and_one_only():
    options = {"request_id": "", "request_ids": {SEVEN: "a", EIGHT: "b"}}
    rejected = message(kwargs={"ids": [SEVEN, EIGHT]}, options=options)
    for _ in range(2):
        collect(dead(rejected.encode()))
    assert list(DeadLetter.objects.order_by("subject").values_list("subject", "payload", "request_id")) == [
        (f"payment:{SEVEN}", {"ids": [SEVEN]}, "a"),
        (f"payment:{EIGHT}", {"ids": [EIGHT]}, "b"),
    ]


def changed(**fields):
    return json.dumps({**message().asdict(), **fields}).encode()


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        *((body, "undecodable") for body in (b"", b"\x00\xff", b"no json", b"[" * 100_000)),
        *((body, "fields_invalid") for body in (b"[]", b"{}", b"1", b'{"message_id": "x"}')),
        (changed(message_id="not-a-uuid"), "message_id_invalid"),
        (changed(queue_name="notifications"), "wrong_queue"),
        (changed(kwargs=[1]), "arguments_invalid"),
        (changed(args=[3]), "arguments_invalid"),
        (changed(args=7), "arguments_invalid"),
        (changed(kwargs={"ids": ["\0"]}), "ids_invalid"),
        (changed(kwargs={"ids": ["\ud800"]}), "ids_invalid"),
        (changed(kwargs={"ids": [SEVEN] * 501}), "ids_invalid"),
        (changed(kwargs={"ids": [float("nan")]}), "undecodable"),
        (changed(actor_name=7), "unknown_actor"),
        (changed(actor_name=""), "unknown_actor"),
        (changed(actor_name="a" * 101), "unknown_actor"),
        (changed(actor_name="\ud800"), "unknown_actor"),
        *((changed(options={"replay_of": value}), "option_invalid") for value in ("x", [1], 10**30)),
        (changed(options={"request_id": "r" * 300}), "option_invalid"),
        (changed(options={"eta": 1}), "option_not_allowed"),
        (changed(more=1), "fields_invalid"),
    ],
)  # fmt: skip
def test_what_the_workers_refuse_is_kept_as_it_came_and_says_which_check_failed(body, cause):
    """Nor does it end the relay: it would come again, and end the next one, and no payment would go out."""
    collect(dead(body))
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.actor, letter.payload, letter.queue) == (cause, "", {}, "payments")
    assert letter.detail.endswith(".")
    assert bytes(letter.body) == body
    assert letter.body_size == len(body)


def test_a_message_to_an_actor_of_another_release_is_kept_as_a_message():
    collect(dead(message(actor_name="of_tomorrow", kwargs={"ids": [SEVEN, EIGHT]}).encode()))
    assert list(DeadLetter.objects.order_by("id").values_list("cause", "actor", "payload", "detail")) == [
        (
            "unknown_actor",
            "of_tomorrow",
            {"ids": [id_]},
            "No actor `of_tomorrow` receives messages from queue `payments`.",
        )
        for id_ in (SEVEN, EIGHT)
    ]


def test_no_message_nested_too_deeply_to_be_stored_ends_the_relay():
    plain = json.dumps(message(kwargs={"x": 1}).asdict()).encode()
    for depth in range(900, 1000, 4):  # somewhere here it can be read, and not be written any more
        collect(dead(plain.replace(b'"x": 1', b'"x": ' + b"[" * depth + b"]" * depth), message_id=str(depth)))
    assert DeadLetter.objects.exists()


def test_a_list_becomes_its_dead_letters_by_one_statement():
    """Several for each id would keep the collector from its heartbeat, and all that died later from its row."""
    ids = [f"0190a6f0-0000-7000-8000-{number:012d}" for number in range(500)]
    listed = message(kwargs={"ids": ids}, options={"request_id": ""}).encode()
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            collect(dead(listed))
        assert len(queries) == 1
    assert DeadLetter.objects.count() == DeathCount.objects.get().total == 500
    collect(dead(message(kwargs={"ids": ids}).encode()))
    assert set(DeadLetter.objects.values_list("attempts", flat=True)) == {2}
    assert DeadLetter.objects.count() == DeathCount.objects.get().total == 500


@pytest.mark.parametrize("number", [501, 20_000])
def test_of_a_message_with_too_many_ids_no_byte_is_lost_and_one_row_is_made(number):
    body = message(kwargs={"ids": [f"0190a6f0-0000-7000-8000-{index:012d}" for index in range(number)]}).encode()
    with CaptureQueriesContext(connection) as queries:
        collect(dead(body))
    assert len(queries) <= 2
    assert DeadLetter.objects.count() == 1
    assert bytes(DeadLetter.objects.get().body) == body


def test_of_a_huge_message_the_beginning_is_kept():
    body = b"{" * (MAX_REFUSED_BYTES + 1)
    collect(dead(body))
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.body_size) == ("message_too_large", MAX_REFUSED_BYTES + 1)
    assert bytes(letter.body) == body[:MAX_REFUSED_BYTES]


@pytest.mark.parametrize("named", [{"*": 5}, {"*": None}, {"ids": ["7"], "*": {"a": 1}}])
def test_an_argument_of_the_name_of_our_own_ends_no_relay(named):
    assert arguments_of(payload_of(message(kwargs=named))) == ((), named)


def test_the_same_body_delivered_again_is_the_same_letter():
    for _ in range(2):
        collect(dead(b"garbage", message_id="1"))
    collect(dead(b"garbage", message_id="2"))
    assert DeadLetter.objects.count() == 2


@pytest.mark.parametrize(
    ("headers", "cause", "attempts"),
    [
        ({"x-death": [{"reason": "delivery_limit", "count": 1}]}, "delivery_limit", 1),
        ({"x-death": [{"reason": "expired", "count": 3}]}, "given_up", 3),
        ({}, "given_up", 1),
        ({"x-death": "nonsense"}, "given_up", 1),
        ({"x-death": [{"reason": "rejected", "count": "many"}]}, "rejected", 1),
        ({"x-death": [{"reason": "rejected", "count": 10**20}]}, "rejected", 1),
        *(({"x-death": [{"reason": "rejected", "count": count}]}, "rejected", 1) for count in (None, "x", -1, 2**31)),
    ],
)
def test_why_rabbitmq_gave_it_up_is_told(headers, cause, attempts):
    collect(dead(message().encode(), headers=headers))
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.attempts) == (cause, attempts)
    assert letter.detail


def test_a_stranger_cannot_have_an_actor_called_by_way_of_a_replay(settings):
    """Whoever may publish payments to make may not choose what our workers do."""
    collect(dead(message().encode(), queue=settings.INTAKE_QUEUE))
    letter = DeadLetter.objects.get()
    assert (letter.actor, letter.cause) == ("", "rejected")
    assert letter.body is not None


# --- with a real broker


@pytest.fixture
def queue(settings):
    name = f"test-{uuid.uuid4().hex}"
    settings.MESSAGE_ROUTES = {"test.due": (name, "some_actor")}
    settings.INTAKE_QUEUE = name
    settings.INTAKE_QUEUE = f"{name}-in"
    yield name
    with pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])) as rabbitmq:
        channel = rabbitmq.channel()
        for work in (name, f"{name}-in"):
            channel.queue_delete(work)
            channel.queue_delete(topology.dead_letter_queue(work))


def test_dead_letter_queues_are_emptied_into_rows_and_a_crash_loses_none(queue):
    stopping = threading.Event()
    url = os.environ["RABBITMQ_URL"]
    thread = threading.Thread(target=lambda: collector.make(url).run(stopping))
    thread.start()
    try:
        with pika.BlockingConnection(pika.URLParameters(url)) as rabbitmq:
            channel = rabbitmq.channel()
            eventually(lambda: exists(rabbitmq, queue), within=10, what="the queues are declared")
            channel.confirm_delivery()
            for number in range(20):
                channel.basic_publish("", queue, f"garbage {number}".encode())
            taken = 0
            while taken < 20:
                method, _, _ = channel.basic_get(queue)
                if method is not None:
                    channel.basic_nack(method.delivery_tag, requeue=False)
                    taken += 1
        eventually(lambda: DeadLetter.objects.count() == 20, within=20, what="20 rows")
    finally:
        stopping.set()
        thread.join()
    letter = DeadLetter.objects.order_by("id").first()
    assert (letter.cause, letter.queue) == ("undecodable", queue)
    assert timezone.now() - letter.first_failed_at < timedelta(minutes=5)


def exists(rabbitmq, queue):
    try:
        channel = rabbitmq.channel()
        channel.queue_declare(queue, passive=True)
        channel.queue_declare(topology.dead_letter_queue(f"{queue}-in"), passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    return True
