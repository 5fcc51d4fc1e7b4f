# ruff: noqa: E402  # Django must be set up before the models are imported
"""`python -m tests.chaos.victim`: does one unit of work per command, in a child that may be killed at any step.

It reads commands as JSON lines and answers each with a line. Steps are counted: every SQL statement, every
COMMIT, every exchange with the gateway, every message sent to RabbitMQ and every confirm. A fault is a step's
number, a side (`before` or `after` it) and a kind:

- `die`: the process is gone, without any clean-up.
- `cut`: the wire breaks. Before: nothing was executed. After: it was, and its answer is lost.
- `terminate`: the database server ends our session just before the statement.

The parent forks with neither threads nor connections, so that each child is as fresh as a new process, at a
hundredth of its price.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import django
import dramatiq
import httpx2
import pika.exceptions
import psycopg
from dramatiq.brokers.stub import StubBroker

EXIT_STATUS = 86
#: Every session of a child holds this lock until it ends: who gets it exclusively knows that no session is left.
SESSION_LOCK = 4_711
#: What the recovery lets pass between two rounds (s): first what retries and leases need, later what look-ups do.
SHORT_WAIT, LONG_WAIT = 120, 86_400
#: Rounds after which a payment that is neither final nor with people counts as stuck.
LAST_ROUND = 30

if __name__ == "__main__":
    django.setup()

from django.conf import settings
from django.db import Error, OperationalError, connection
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

from console import decisions
from merchants.audit import by_shell
from merchants.models import Merchant, Mode
from messaging import relay, resolutions, subscribers
from messaging.escapes import Escaped
from messaging.models import OutboxMessage, Resolution
from messaging.publisher import BrokerUnavailable, InProcessPublisher, Published, RabbitPublisher
from messaging.selections import Selection
from payments import rescue
from payments.gateways.transport import NoAnswer, NotSent, Transport
from payments.models import Payment
from payments.operations import PaymentRequest, accept_payment, process_payments
from tests.chaos.clock import pass_time
from tests.claiming import claim_one
from tests.outbox import work

# --- steps and faults


class LostOnTheWay(Exception):
    """A callback that never comes."""


class Steps:
    """Counts the steps of one child and strikes at one of them."""

    def __init__(self, fault: dict | None, tell: Callable[..., None]) -> None:
        self.fault, self.tell = fault, tell
        self.number = 0
        self.counting = False

    @contextmanager
    def counted(self, *, counting: bool = True) -> Iterator[None]:
        """What is done inside counts, or, for what belongs to the test, does not."""
        before, self.counting = self.counting, counting
        try:
            yield
        finally:
            self.counting = before

    def take(self, label: str, act: Callable, *, cut: Callable[[str], None]) -> object:
        """Do one step, with the fault at its side."""
        if not self.counting:
            return act()
        self.number += 1
        self.tell(step=label)
        self.strike("before", cut)
        try:
            return act()
        finally:  # an exchange that brought no answer was made all the same
            self.strike("after", cut)

    def strike(self, side: str, cut: Callable[[str], None]) -> None:
        if self.fault is None or (self.fault["step"], self.fault["side"]) != (self.number, side):
            return
        kind, self.fault = self.fault["kind"], None
        self.tell(struck=kind)
        if kind == "die":
            os._exit(EXIT_STATUS)
        elif kind == "terminate":
            terminate_session()
        else:
            cut(side)

    def arm(self) -> None:
        """Put ourselves around everything that counts as a step."""
        connection.execute_wrappers.append(self.around_statement)
        self.wrap(DatabaseWrapper, "_commit", "COMMIT", cut_commit)
        self.wrap(Transport, "send", "gateway", cut_gateway)
        self.wrap(RabbitPublisher, "_send", "publish", cut_publish)
        self.wrap(RabbitPublisher, "_on_confirm", "confirm", cut_confirm)
        self.wrap(InProcessPublisher, "publish", "hand over", None)

    def around_statement(self, execute, sql, params, many, context):
        label = " ".join(sql.split()[:3]).replace('"', "")
        return self.take(label, lambda: execute(sql, params, many, context), cut=cut_database)

    def wrap(self, owner: type, name: str, label: str, cut: Callable | None) -> None:
        """Make each call of a method a step; `cut` is told whose method, and the side."""
        original = getattr(owner, name)

        def stepping(this, *args, **kwargs):
            says = f"{label} {args[0]}" if label == "gateway" else label
            with suppress(LostOnTheWay):
                return self.take(says, lambda: original(this, *args, **kwargs), cut=cut and partial(cut, this))

        setattr(owner, name, stepping)


def cut_database(side: str) -> None:
    """Break the connection. Before a statement, the driver finds out by itself as it sends."""
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    if side == "after":
        raise OperationalError("the answer was lost") from psycopg.OperationalError("the answer was lost")


def terminate_session() -> None:
    pid = connection.connection.info.backend_pid
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def cut_commit(_wrapper: DatabaseWrapper, side: str) -> None:
    cut_database(side)


def cut_gateway(_transport: Transport, side: str) -> None:
    if side == "before":
        raise NotSent("connection refused")
    raise NoAnswer("the answer was lost")


def cut_publish(publisher: RabbitPublisher, side: str) -> None:
    """Before: the bytes are taken by a wire that has broken already, which is found out later."""
    if side == "after":
        raise pika.exceptions.StreamLostError("the connection broke")
    publisher._channel.basic_publish = lambda **_message: publisher._on_lost(None, "the connection broke")


def cut_confirm(publisher: RabbitPublisher, side: str) -> None:
    """The connection to RabbitMQ breaks while its confirm is on the way, or just after it."""
    publisher._on_lost(None, "the connection broke")
    if side == "before":
        raise LostOnTheWay


# --- units of work; the last one of a command counts


class Recorder:
    """A publisher that hands out what the relay publishes: payments that are due, resolutions and deliveries."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.resolutions: list[int] = []
        self.deliveries: list[str] = []

    def publish(self, messages):
        due = [dramatiq.Message.decode(message.body) for message in messages if not message.exchange]
        for message in due:
            of = {
                "process_payments": self.ids,
                "continue_resolutions": self.resolutions,
                "call_webhooks": self.deliveries,
            }[message.actor_name]
            of += message.kwargs["ids"]
        return Published(confirmed={message.message_id for message in messages})


class Work:
    """The units, each under its name in the commands."""

    def __init__(self, steps: Steps, command: dict) -> None:
        self.steps, self.command = steps, command
        self.payment_id: UUID | None = UUID(command["payment"]) if "payment" in command else None

    def accept(self) -> None:
        with self.steps.counted(counting=False):
            merchant = Merchant.objects.get(slug="shop")
        answer = accept_payment(
            merchant=merchant,
            mode=Mode.TEST,
            idempotency_key=self.command["key"],
            request=PaymentRequest(
                amount=1000, currency="EUR", order_id=self.command["key"], payment_method=self.command["method"]
            ),
            request_id=f"request-{self.command['key']}",
            now=timezone.now(),
        )
        self.payment_id = UUID(answer.location.rsplit("/", 1)[1])
        self.steps.tell(payment=str(self.payment_id))

    def process(self) -> None:
        process_payments(payment_ids=[self.payment_id])

    def claim(self) -> None:
        """A worker that dies before it calls."""
        claim_one(self.payment_id)

    def rescue(self) -> None:
        rescue.run_once()

    def fan_out(self) -> None:
        """The events become deliveries."""
        subscribers.run_once("notifications")

    def relay(self) -> None:
        url, exchange = settings.DRAMATIQ_BROKER["OPTIONS"]["url"], settings.EVENTS_EXCHANGE
        publisher = RabbitPublisher(url, [self.command["queue"]], exchange=exchange)
        publisher.ensure_connected()
        with self.steps.counted(counting=False):
            work().update(queue=self.command["queue"])
        relay.run_once(publisher)

    def relay_in_process(self) -> None:
        """Into the memory of this very process, which a crash forgets."""
        broker = StubBroker(middleware=[])
        broker.declare_queue("payments")
        dramatiq.set_broker(broker)
        relay.run_once(InProcessPublisher())

    def lose_message(self) -> None:
        """The broker forgot everything; what our own rooms take was never there."""
        OutboxMessage.objects.filter(subscriber="").delete()

    def mend(self) -> None:
        """The gateway is back."""
        self.steps.tell(mended=httpx2.patch(f"{os.environ['SANDBOX_URL']}/settings", json={"mended": ["pm_down"]}).text)

    def decide(self) -> None:
        """Somebody has all that is dead replayed."""
        decisions.decide(Selection(), Resolution.Action.REPLAY, reason="it is back", rate=None, who=by_shell("staff"))

    def work_off(self) -> None:
        """A worker takes the letters of that in hand."""
        with self.steps.counted(counting=False):
            resolution = Resolution.objects.get(state=Resolution.State.RUNNING)
        resolutions.work_off(resolution.pk, in_background=True)

    def wait(self) -> None:
        pass_time(self.payment_id, SHORT_WAIT)

    def recover(self) -> None:
        """What rescue, relay and workers do until nothing is left to do."""
        for number in range(LAST_ROUND):
            with self.steps.counted(counting=False):
                if is_at_rest(self.payment_id):
                    return
                pass_time(self.payment_id, SHORT_WAIT if number < 8 else LONG_WAIT)
            try:
                self.one_round()
            except (Error, BrokerUnavailable) as error:
                self.steps.tell(again=f"{type(error).__name__}: {error}")
                connection.close()
        raise AssertionError(f"stuck after {LAST_ROUND} rounds")

    def one_round(self) -> None:
        rescue.run_once()
        resolutions.rescue()
        subscribers.run_once("notifications")
        recorder = Recorder()
        relay.run_once(recorder)
        for resolution_id in recorder.resolutions:
            resolutions.work_off(resolution_id, in_background=True)
        for payment_id in recorder.ids:
            process_payments(payment_ids=[UUID(payment_id)])


def is_at_rest(payment_id: UUID) -> bool:
    """Final, or with people; and no message is left, and no resolution under way."""
    payment = Payment.objects.get(pk=payment_id)
    ended = payment.finished_at is not None or (payment.needs_review and payment.revive_at is None)
    running = Resolution.objects.filter(state=Resolution.State.RUNNING)
    return ended and not OutboxMessage.objects.exists() and not running.exists()


# --- parent and child


def hold_session_lock(connection, **_) -> None:
    with connection.connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(%s)", [SESSION_LOCK])


def run_child(command: dict, pipe: int) -> None:
    """Do the command's units; only the last one counts."""

    def tell(**news: object) -> None:
        os.write(pipe, json.dumps(news).encode() + b"\n")

    settings.GATEWAYS["sandbox"] |= {"DEADLINE": command["deadline"], "LEASE": 60.0}
    # The breaker would depend on how many of the others' failures are younger than half a minute.
    settings.GATEWAYS["sandbox"]["BREAKER"] |= {"MIN_CALLS": 10**6}
    # Nor on how many of the others were declined; that they are counted is a step like any other.
    settings.DECLINES_PER_MERCHANT = 10**6
    # Longer than a slow machine takes for a step, shorter than what `wait` lets pass.
    settings.GATEWAYS["sandbox"]["OPTIONS"]["grace_period"] = timedelta(seconds=60)
    steps = Steps(command.get("fault"), tell)
    steps.arm()
    work = Work(steps, command)
    *before, last = command["units"]
    for unit in before:
        getattr(work, unit)()
    try:
        with steps.counted():
            getattr(work, last)()
    except Exception as error:  # noqa: BLE001  # the test judges it
        cause = next(iter(error.failures.values())) if isinstance(error, Escaped) else error
        tell(ended=type(cause).__name__, why="".join(traceback.format_exception(error))[-3000:])
    else:
        tell(ended="returned")


def run_forked(command: dict) -> dict:
    """Fork a child for the command, and tell how it went."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run_child(command, writer)
        except BaseException:  # noqa: BLE001  # the parent's loop must not go on in a child
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    report = {"steps": [], "struck": None, "ended": "died", "why": "", "payment": command.get("payment"), "again": ""}
    with os.fdopen(reader) as pipe:
        for line in pipe:
            news = json.loads(line)
            if "step" in news:
                report["steps"].append(news["step"])
            else:
                report |= news
    report["status"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return report


def warm_up() -> None:
    """Do once here what each child would do again: imports at first use, Django's compiled queries, certificates."""
    importlib.import_module("anyio._backends._asyncio")
    certificates = httpx2.create_ssl_context(trust_env=False)
    httpx2.create_ssl_context = lambda **_: certificates
    claim_one(uuid4())
    relay.run_once(Recorder())
    connection.close()
    gc.collect()
    gc.freeze()
    gc.disable()


def main() -> None:
    """Serve commands until the input ends."""
    if sys.platform == "linux":  # 1: PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # The database is back at once after each fault: nobody needs to wait for it.
    time.sleep = lambda _seconds: None
    connection_created.connect(hold_session_lock)
    warm_up()
    assert connection.connection is None, "a connection must not be carried across a fork"
    assert threading.active_count() == 1, "nor a lock that some thread holds"
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run_forked(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
