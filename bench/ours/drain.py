"""What the relay moves, and what workers bring to an end, when a backlog waits."""

import time
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure
from bench.options import PROCESSES, Options
from bench.ours.backlog import copy_backlog
from bench.ours.house import House, memory
from bench.processes import cpu_seconds
from bench.stage import Stage, eventually
from deploy.local.supervisor import Process

DATABASE: Final = "drain"
#: The exchange to which events go.
EVENTS: Final = "payments.events"
#: Seconds after which a backlog that is not done is measured as far as it came.
LIMIT: Final = 90.0
#: What goes to the broker; what rooms of ours take by themselves is not the relay's to publish.
OUTBOX: Final = "SELECT count(*) FROM messaging_outboxmessage WHERE subscriber = ''"
#: Of any age of the table: only payments in work are in this index.
OPEN: Final = "SELECT count(*) FROM payments_payment WHERE revive_at IS NOT NULL"
#: From the first charge to the last end, so that the start of processes counts for nothing.
DRAINED: Final = """
    SELECT
        count(DISTINCT payment_id) FILTER (WHERE payment.status = 'succeeded'),
        count(DISTINCT payment_id) FILTER (WHERE payment.status <> 'succeeded'),
        extract(epoch FROM max(payment.finished_at) - min(started_at))::float
    FROM payments_attempt JOIN payments_payment AS payment ON payment.id = payment_id
    WHERE started_at >= %s AND payment.finished_at IS NOT NULL
"""


@dataclass(slots=True)
class Relay:
    """Outbox rows a second from PostgreSQL to queues of RabbitMQ, events as well; nobody consumes them."""

    stage: Stage
    options: Options
    house: House
    name: str = "relay"

    def start(self) -> None:
        """The backlog is made when it is copied."""

    def measure(self) -> list[Figure]:
        """From the first row gone to the last."""
        copy_backlog(self.house, DATABASE)
        with self.stage.listening(EVENTS):
            return self.publish_all()

    def publish_all(self) -> list[Figure]:
        """Work off the outbox."""
        rows = self.left()
        relays = self.house.begin("relay", DATABASE)
        eventually(lambda: self.left() < rows, within=30, every=0.01)
        began, first = time.monotonic(), self.left()
        done = eventually(lambda: self.left() == 0, within=LIMIT, every=0.02)
        seconds, moved = time.monotonic() - began, first - self.left()
        size = memory("relay", relays)
        self.stage.stop(*relays)
        fault = "" if done else f"{rows - moved} of {rows} rows were left after {LIMIT:.0f} s"
        return [Figure(key="relay", value=moved / seconds, unit="rows/s", details={"rows": moved}, fault=fault), size]

    def left(self) -> int:
        """Rows that wait."""
        return int(self.stage.ask(DATABASE, OUTBOX)[0])

    def stop(self) -> None:
        """Nothing runs between measurements."""


@dataclass(slots=True)
class Drain:
    """A backlog of accepted payments until all are final, through relay, RabbitMQ and workers."""

    stage: Stage
    options: Options
    house: House
    name: str = "drain"

    def start(self) -> None:
        """The backlog is made when it is copied."""

    def measure(self) -> list[Figure]:
        """Final payments a second, from the first charge to the last end."""
        copy_backlog(self.house, DATABASE)
        figures = drain(self.house, DATABASE)
        self.stage.drop(DATABASE)
        return figures

    def stop(self) -> None:
        """Nothing runs between measurements."""


def drain(house: House, database: str, *, key: str = "drain") -> list[Figure]:
    """Work off all that is open in a database."""
    since = house.stage.ask(database, "SELECT now()")[0]
    workers = house.begin_workers(database)
    before, sizes = memory("worker_before", workers), house.stage.server_cpu()
    relays = house.begin("relay", database)
    watched = {"relay": relays, "workers": workers}
    cpu = {name: used(processes) for name, processes in watched.items()} | sizes
    began = time.monotonic()
    eventually(lambda: house.stage.ask(database, OPEN)[0] == 0, within=LIMIT, every=0.1)
    wall = time.monotonic() - began
    after = {name: used(processes) for name, processes in watched.items()} | house.stage.server_cpu()
    size = [memory("worker", workers), memory("relay_drain", relays), before]
    house.stage.stop(*relays, *workers)
    done, failed, seconds = house.stage.ask(database, DRAINED, since)
    left = int(house.stage.ask(database, OPEN)[0])
    cores = {f"cpu_{name}": (after[name] - cpu[name]) / wall for name in cpu}
    details = {**cores, "payments": done, "processes": PROCESSES}
    fault = fault_of(done=done, failed=failed, left=left)
    return [Figure(key=key, value=done / (seconds or 1.0), unit="payments/s", details=details, fault=fault), *size]


def fault_of(*, done: int, failed: int, left: int) -> str:
    """Why the figure says nothing, if it does not: the gateway approves all, so that each has to succeed."""
    return "" if done and not failed and not left else f"{done} succeeded, {failed} failed, {left} were left"


def used(processes: list[Process]) -> float:
    """CPU seconds of some processes."""
    return sum(cpu_seconds(process.pid) for process in processes if process.pid)
