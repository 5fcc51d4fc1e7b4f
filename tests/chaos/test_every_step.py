"""A crash at every step of every unit of work, one after the other; then the recovery, which crashes as well."""

import json
import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pika
import pytest
from django.db import connection, transaction
from dramatiq import Message

from merchants.models import Mode
from messaging.models import DeadLetter, OutboxMessage
from notifications import endpoints
from notifications.models import Delivery
from payments.models import GatewayCircuit, IdempotencyKey, Payment
from tests.chaos.gateway_process import GatewayProcess
from tests.chaos.victim import EXIT_STATUS, SESSION_LOCK
from tests.outbox import announcements, subscribed, work
from tests.system import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

#: One crash of so many is played a second time, with another crash during the recovery.
TWICE_EVERY = 3

FINALS = {
    "pm_ok": {"succeeded"},
    "pm_declined": {"failed"},
    "pm_flaky_2": {"succeeded"},
    "pm_timeout_charged": {"succeeded"},
    # Nothing was ever taken; but after a crash nobody can prove it, and people are asked.
    "pm_down": {"failed", "unknown"},
}


@dataclass(frozen=True)
class Scene:
    """A payment's way up to one unit of work, which is the last and the one that crashes."""

    method: str
    units: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join((self.method, *self.units))

    @property
    def finals(self) -> set[str]:
        """Where it may end. What was sent back succeeds, once the decision to do so was stored."""
        if "decide" in self.units:
            return {"succeeded", "failed"} if self.units[-1] == "decide" else {"succeeded"}
        return FINALS[self.method]


#: A payment that died while its gateway was down, and is sent back now that it is up again.
DEAD = ("accept", *("process", "wait") * 3, "process", "mend")


def tried(times: int) -> tuple[str, ...]:
    return ("process", "wait") * times


SCENES = [
    Scene("pm_ok", ("accept",)),
    Scene("pm_ok", ("accept", "relay")),
    Scene("pm_ok", ("accept", "relay_in_process")),
    Scene("pm_ok", ("accept", "lose_message", "wait", "rescue")),
    Scene("pm_ok", ("accept", "process")),
    Scene("pm_ok", ("accept", "claim", "wait", "process")),  # looked up after a death, too early to believe it
    Scene("pm_ok", ("accept", "claim", "wait", *tried(1), "process")),  # looked up, nothing found, sent again
    Scene("pm_ok", ("accept", "process", "fan_out")),
    Scene("pm_declined", ("accept", "process")),
    Scene("pm_flaky_2", ("accept", "process")),
    Scene("pm_flaky_2", ("accept", *tried(2), "process")),
    Scene("pm_down", ("accept", *tried(3), "process")),  # the last retry
    Scene("pm_down", (*DEAD, "decide")),
    Scene("pm_down", (*DEAD, "decide", "work_off")),
    Scene("pm_down", (*DEAD, "decide", "work_off", "process")),  # asked first, then charged
    Scene("pm_timeout_charged", ("accept", "process")),
    Scene("pm_timeout_charged", ("accept", *tried(1), "process")),  # look-up, found
]


# --- the victim and the witness


class Victim:
    """The process whose children die."""

    def __init__(self, gateway: GatewayProcess) -> None:
        database = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{connection.settings_dict['NAME']}"
        env = {"DATABASE_URL": database, "SANDBOX_URL": gateway.url, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR"}
        argv = [sys.executable, "-m", "tests.chaos.victim"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, env={**os.environ, **env}, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def run(self, *units: str, **command: object) -> SimpleNamespace:
        """Have a child do the units, of which the last one counts, and hear how it went."""
        self.process.stdin.write(json.dumps({"units": units, **command}) + "\n")
        self.process.stdin.flush()
        report = SimpleNamespace(**json.loads(self.process.stdout.readline()))
        await_end_of_sessions()
        return report

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def await_end_of_sessions() -> None:
    """Each session of a child holds this lock; one that idles somewhere fails the test by the lock's timeout."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '20s'")  # a busy machine may take its time
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SESSION_LOCK])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    made = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def victim(gateway, django_db_setup):
    made = Victim(gateway)
    yield made
    made.stop()


class Queue:
    """A queue of its own for each test, so that nobody else takes what is published."""

    def __init__(self) -> None:
        self.name = f"test-{uuid.uuid4().hex}"

    @contextmanager
    def channel(self):
        """For a moment only: a connection that is not listened to is cut off by its heartbeat."""
        with pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])) as connected:
            yield connected.channel()

    def take_all(self) -> set[str]:
        """The ids in all its messages, which are gone then."""
        ids = set()
        with self.channel() as channel:
            while (body := channel.basic_get(self.name, auto_ack=True)[2]) is not None:
                ids |= set(Message.decode(body).kwargs["ids"])
        return ids

    def delete(self) -> None:
        with self.channel() as channel:
            channel.queue_delete(self.name)
            channel.queue_delete(f"{self.name}.XQ")


@pytest.fixture
def queue():
    made = Queue()
    yield made
    made.delete()


@pytest.fixture
def stage(victim, gateway, queue, merchant):
    endpoints.create(merchant=merchant, mode=Mode.TEST, url="https://shop.example/hooks")
    return Stage(victim, gateway, queue)


@dataclass
class Stage:
    """Where one scene is played again and again, each time with another payment."""

    victim: Victim
    gateway: GatewayProcess
    queue: Queue

    def play(self, scene: Scene, fault: dict | None = None, second: dict | None = None) -> tuple:
        """Play a scene with a fault, recover, with another fault if wanted, and judge what is left."""
        GatewayCircuit.objects.all().delete()
        self.gateway.break_again()
        command = {"key": uuid.uuid4().hex, "method": scene.method, "queue": self.queue.name}
        command["deadline"] = deadline = 0.3 if "timeout" in scene.method else 10.0
        first = self.victim.run(*scene.units, **command, fault=fault)
        assert_struck(first, fault)
        assert_nothing_is_half_done(command["key"], untouched=scene.units == ("accept",))
        if scene.units[-1] == "relay":
            self.assert_the_message_is_somewhere(first.payment)
        # A client that got no answer asks again, under the same key.
        payment_id = first.payment or self.victim.run("accept", **command).payment
        recovery = self.victim.run("recover", payment=payment_id, deadline=deadline, fault=second)
        assert_struck(recovery, second)
        if second:
            again = self.victim.run("recover", payment=payment_id, deadline=deadline)
            assert_struck(again, None)
        self.judge(Payment.objects.get(pk=payment_id), scene, crashed=fault is not None)
        return first, recovery

    def assert_the_message_is_somewhere(self, payment_id: str) -> None:
        """Before anybody rescues anything: what has left the outbox is in the queue."""
        in_queue = self.queue.take_all()
        assert work().exists() or payment_id in in_queue, "neither in the outbox nor in RabbitMQ"

    def judge(self, payment: Payment, scene: Scene, *, crashed: bool) -> None:
        """The invariants, with the gateway's journal as the witness."""
        charges = self.gateway.charges(str(payment.pk))
        assert len(charges) == (payment.status == "succeeded"), f"{payment.status}, and charged {len(charges)} times"
        assert payment.status in scene.finals
        assert payment.status != "unknown" or (crashed and payment.needs_review)
        assert not payment.needs_review or payment.status == "unknown"
        assert payment.lease_expires_at is None
        assert not payment.attempts.filter(finished_at=None).exists()
        assert not OutboxMessage.objects.exists()
        events = set(payment.events.values_list("pk", flat=True))
        told = list(Delivery.objects.filter(payment_id=payment.pk).values_list("event_id", flat=True))
        assert (set(told), len(told)) == (events, len(events)), "an event that nobody is told of, or one told twice"
        letters = DeadLetter.objects.filter(subject=f"payment:{payment.pk}", state="open").count()
        assert letters == (payment.error_code == "retries_exhausted")
        # Whoever plays next shall find no letters of this one.
        DeadLetter.objects.filter(state="open").update(state="discarded", resolved_at=payment.created_at)


def faults_of(step: str) -> list[tuple[str, str]]:
    """The sides and kinds of what can go wrong at a step."""
    faults = [("before", "die"), ("after", "die")]
    if step == "hand over":  # to threads of the same process: there is no wire
        return faults
    faults += [("before", "cut"), ("after", "cut")]
    if step.startswith(("gateway", "publish", "confirm")):
        return faults
    return [*faults, ("before", "terminate")]


def crash_points(steps: list[str]) -> list[dict]:
    """Every fault at every step."""
    return [
        {"step": number, "side": side, "kind": kind}
        for number, step in enumerate(steps, start=1)
        for side, kind in faults_of(step)
    ]


def assert_struck(report: SimpleNamespace, fault: dict | None) -> None:
    """The child met its fault, and otherwise did its work."""
    if fault is None:
        assert report.ended == "returned", report.why
        return
    assert report.struck == fault["kind"], f"not reached: {fault} of {report.steps}"
    if fault["kind"] == "die":
        assert (report.ended, report.status) == ("died", EXIT_STATUS)
    else:
        assert report.ended in {"returned", "OperationalError", "BrokerUnavailable"}, report.why


def assert_nothing_is_half_done(key: str, *, untouched: bool) -> None:
    """What is written together is there together, right after the crash."""
    payments = list(Payment.objects.filter(order_id=key))
    assert len(payments) == IdempotencyKey.objects.filter(key=key).count() <= 1
    if untouched:
        assert len(payments) == work().count(), "a payment without its message, or the other way round"
        announced = sum(payment.events.count() for payment in payments)
        assert announced == announcements().count(), "an event that is not announced, or the other way round"
        assert announced == subscribed().count(), "an event that our own rooms do not hear of, or the other way round"
    for payment in payments:
        events = payment.events.order_by("version")
        assert [event.version for event in events] == list(range(1, payment.version + 1))
        assert events.last().snapshot["status"] == payment.status
        assert events.last().snapshot["id"] == str(payment.pk)


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_a_crash_at_any_step_neither_loses_nor_doubles_a_payment(scene, stage, rounds, full, dice):
    first, _ = stage.play(scene)
    assert first.steps, "nothing was counted"
    points = crash_points(first.steps)
    for number, fault in enumerate(points if full else dice.sample(points, min(rounds, len(points)))):
        _, recovery = stage.play(scene, fault)
        if recovery.steps and number % TWICE_EVERY == 0:
            stage.play(scene, fault, dice.choice(crash_points(recovery.steps)))
    orders = stage.gateway.charges_per_order()
    assert {order: count for order, count in orders.items() if count > 1} == {}, "an order charged twice"
