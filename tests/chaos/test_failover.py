"""PostgreSQL fails over to a standby: what was accepted can be forgotten, and no order is charged twice.

The oracle is the gateway's journal, and the gateway honours idempotency keys. Clients that have no answer, or that
check their payments afterwards, repeat their requests under the same keys; some never do.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.standby import Standby
from tests.system import FINAL, System, eventually

#: See conftest.py.
FAILS_OVER = True
#: Requests at the same time.
CLIENTS = 6
#: Accepted before the link is lost, accepted after it, and charged of the latter before the primary is lost.
BEFORE, AFTER, CHARGED = 10, 24, 12
#: One client of so many never repeats its requests after a failover.
SILENT_EVERY = 4


@dataclass
class Orders:
    """Clients, each of whose requests is for an order of its own; `accepted`: order -> the id that was answered."""

    system: System
    prefix: str
    accepted: dict[str, str] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    #: Of the forgotten ones, those that the gateway had charged before any request was repeated.
    forgotten_and_charged: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, order: str) -> None:
        """Send the request of an order until it has an answer."""
        answer = self.system.insist(order, within=120, order_id=order, payment_method="pm_ok")
        assert answer.status_code == 202, answer.text
        with self._lock:
            self.accepted[order] = answer.json()["id"]

    @contextmanager
    def arriving(self):
        """Send requests for new orders inside the block, all clients at the same time."""
        stop = threading.Event()

        def run():
            while not stop.is_set():
                with self._lock:
                    self._number += 1
                    order = f"{self.prefix}-{self._number}"
                self.send(order)

        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(run) for _ in range(CLIENTS)]
            try:
                yield
            finally:
                stop.set()
            for one in running:
                one.result()

    def await_accepted(self, count: int) -> None:
        eventually(lambda: len(self.accepted) >= count, within=120, what=f"{count} payments accepted")

    def retry(self) -> None:
        """Repeat the requests after a failover, all but those of some clients, under the same keys."""
        known = {row["order_id"] for row in self.payments()}
        self.forgotten = self.accepted.keys() - known
        self.forgotten_and_charged = self.forgotten & self.charges().keys()
        numbered = enumerate(sorted(self.accepted))
        self.retried = {order for number, order in numbered if number % SILENT_EVERY or order in known}
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self.send, sorted(self.retried)))

    def payments(self) -> list[dict]:
        """The payments of these orders, as the database has them."""
        return self.system.query(
            "SELECT id::text, order_id, status, amount_captured FROM payments_payment WHERE order_id LIKE %s",
            f"{self.prefix}-%",
        )

    def charges(self) -> Counter[str]:
        """Order -> how often the gateway charged it."""
        return Counter(entry["order_id"] for entry in self.entries())

    def entries(self) -> list[dict]:
        """The charges of these orders, as the gateway has them."""
        return [
            entry
            for entry in self.system.journal()
            if entry["operation"] == "charge" and entry["order_id"].startswith(f"{self.prefix}-")
        ]

    def await_rest(self) -> None:
        """Wait until all these payments are final."""
        eventually(
            lambda: all(payment["status"] in FINAL for payment in self.payments()),
            within=120,
            what=lambda: f"all payments final, not {Counter(payment['status'] for payment in self.payments())}",
        )


@dataclass(frozen=True)
class Figures:
    """What a failover did, by the gateway's journal and the database after it."""

    accepted: int
    forgotten: int
    forgotten_and_charged: int
    charged: int
    charged_twice: int
    recognised: int
    without_payment: set[str]
    found: set[str]

    @classmethod
    def of(cls, orders: Orders) -> "Figures":
        charges = orders.charges()
        paid = {payment["order_id"]: payment["id"] for payment in orders.payments() if payment["amount_captured"]}
        first = {}
        for entry in orders.entries():
            first.setdefault(entry["order_id"], entry["payment_id"])
        return cls(
            accepted=len(orders.accepted),
            forgotten=len(orders.forgotten),
            forgotten_and_charged=len(orders.forgotten_and_charged),
            charged=len(charges),
            charged_twice=sum(count > 1 for count in charges.values()),
            # The charge was made for a payment that was forgotten, and is now another payment's.
            recognised=sum(charges[order] == 1 and first[order] != payment for order, payment in paid.items()),
            without_payment=charges.keys() - paid.keys(),
            found=found_by_reconciliation(orders.system),
        )

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted}, forgotten {self.forgotten} (of these charged {self.forgotten_and_charged}), "
            f"charged {self.charged}, charged twice {self.charged_twice}, recognised by the gateway {self.recognised}, "
            f"charges without a payment {len(self.without_payment)}, "
            f"of these found by reconcile {len(self.found & self.without_payment)}"
        )


def found_by_reconciliation(system: System) -> set[str]:
    """Return the orders of charges that `manage.py reconcile`, or a webhook before it, has recorded for review."""
    until = datetime.now(UTC).isoformat()  # by default it leaves out the last minute, which is all of this test
    done = system.try_to_manage("reconcile", "--gateway", "sandbox", "--since", "24h", "--until", until)
    assert done.returncode in {0, 1}, done.stderr
    return {row["order_id"] for row in system.query("SELECT order_id FROM payments_unmatchedcharge")}


@pytest.fixture
def running(system):
    """The system with relay and worker, and a gateway that honours keys."""
    system.gateway()
    system.start("relay")
    system.start("worker")
    return system


def replication(system):
    """What `manage.py doctor` says of the standby."""
    return next(line for line in system.try_to_manage("doctor").stdout.splitlines() if " replication: " in line)


def test_a_failover_to_an_asynchronous_standby_charges_no_order_twice(running, rounds):
    """The link is lost before the primary: what was accepted in between is forgotten, and clients repeat it."""
    for number in range(max(1, rounds // 3)):
        standby = Standby(running, f"asynchronous-{number}")
        if number == 0:
            assert replication(running).startswith("FAILED")
        orders = Orders(running, f"async-{number}")
        with orders.arriving():
            orders.await_accepted(BEFORE)
            standby.link.cut()
            before = set(orders.accepted)
            orders.await_accepted(len(before) + AFTER)
            charged = lambda: len(orders.charges().keys() - before) >= CHARGED  # noqa: B023, E731  # called here only
            eventually(charged, within=120, what=f"{CHARGED} orders charged after the link was lost")
            standby.fail_over()
        orders.retry()
        orders.await_rest()
        figures = Figures.of(orders)
        print(f"asynchronous standby: {figures}")
        assert figures.forgotten_and_charged >= CHARGED // 2, "too little was forgotten to prove anything"
        assert figures.charged_twice == 0
        never_repeated = orders.forgotten - orders.retried
        assert figures.without_payment <= never_repeated, "a charge whose client repeated its request has no payment"
        assert {payment["status"] for payment in orders.payments()} == {"succeeded"}
        assert figures.without_payment <= figures.found, "a charge was not found"


def test_a_failover_to_a_synchronous_standby_forgets_no_payment(running, rounds, dice):
    """Neither what was accepted, nor that a charge was begun: so the gateway may forget its keys."""
    running.gateway(forget_keys=True)
    for number in range(max(1, rounds // 3)):
        standby = Standby(running, f"synchronous-{number}")
        standby.make_synchronous()
        if number == 0:
            assert replication(running).startswith("ok")
        orders = Orders(running, f"sync-{number}")
        with orders.arriving():
            orders.await_accepted(BEFORE + AFTER)
            if dice.random() < 0.5:  # the link is lost before the primary: then commits wait, and are not answered
                standby.link.cut()
                waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                eventually(lambda: standby.ask_primary(waiting), within=60, what="a commit waits for the standby")  # noqa: B023
            standby.fail_over()
        known = {payment["order_id"]: payment["id"] for payment in orders.payments()}
        assert orders.accepted.items() <= known.items(), "an accepted payment is forgotten"
        orders.await_rest()
        figures = Figures.of(orders)
        print(f"synchronous standby: {figures}")
        assert figures.charged_twice == 0
        assert figures.without_payment == set()
        assert figures.charged == figures.accepted


def test_a_crash_loses_no_payment_where_the_server_confirms_before_it_writes(system, rounds):
    """`synchronous_commit = off` is the server's default, and nothing is written by itself for ten seconds."""
    process = system.processes["postgres"]
    lazy = ["-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s", "-c", "wal_writer_flush_after=1GB"]
    before = list(process.argv)
    restart(system, [*before, *lazy])
    try:
        for number in range(max(1, rounds // 3)):
            orders = Orders(system, f"lazy-{number}")
            with orders.arriving():
                orders.await_accepted(BEFORE)
            restart(system, process.argv)
            known = {payment["order_id"]: payment["id"] for payment in orders.payments()}
            lost = orders.accepted.items() - known.items()
            print(f"synchronous_commit off: accepted {len(orders.accepted)}, lost {len(lost)}")
            assert lost == set(), "an accepted payment is lost"
    finally:
        restart(system, before)


def restart(system, argv):
    """Crash PostgreSQL and start it with these arguments."""
    system.crash_postgres()
    system.processes["postgres"].argv[:] = argv
    system.start_postgres()
