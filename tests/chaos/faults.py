"""The faults of the soak: each is one function of the system under load, and has ended when the function returns."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from tests.chaos.small_disk import SmallDisk
from tests.chaos.test_gateway import FAULTS as GATEWAY_FAULTS
from tests.standby import Standby
from tests.system import System, eventually

WORKERS: Final = ("-a", "-b")
#: Processes of the application, which are started again when a fault has killed them.
APPLICATION: Final = ("relay", "intake", *(f"worker{instance}" for instance in WORKERS))
#: Processes that are stopped by a signal: each alone, or with all its children.
STOPPED: Final = ("web", *APPLICATION, "sandbox", "postgres", "standby", "rabbitmq")
#: More than RabbitMQ finds on any disk, and what it is satisfied with (bytes).
NO_DISK, ANY_DISK = str(1 << 60), "50000000"

_numbers = count(1)


@dataclass
class Stage:
    """The system under load with its standby.

    `is_synchronous`: commits wait for the standby, so that a failover loses nothing, and the gateway forgets its keys:
    what is sent twice is charged twice. Otherwise a failover loses commits, and the gateway honours keys.
    """

    system: System
    dice: random.Random
    disks: dict[str, SmallDisk] = field(default_factory=dict)
    is_synchronous: bool = True
    standby: Standby | None = None

    @property
    def forgets_keys(self) -> bool:
        return self.is_synchronous

    def start(self, *, is_synchronous: bool) -> None:
        """Begin a round: a new standby of this kind, and all processes."""
        if self.standby is not None:
            self.standby.remove()
        self.is_synchronous = is_synchronous
        self.add_standby()
        self.start_all()
        self.system.gateway(forget_keys=self.forgets_keys)

    def add_standby(self) -> None:
        """Copy the primary of the moment."""
        self.standby = Standby(self.system, f"standby_{next(_numbers)}")
        if self.is_synchronous:
            self.standby.make_synchronous()

    def start_all(self) -> None:
        """Start each process that a fault has killed."""
        system = self.system
        if system.processes["postgres"].pid is None:
            system.start_postgres()
        if self.standby is not None and self.standby.process.pid is None:
            self.standby.start()
        for name in APPLICATION:
            if (running := system.processes.get(name)) is None or running.pid is None:
                kind, dash, instance = name.partition("-")
                system.start(kind, instance=dash + instance)

    def stopped_name(self, name: str) -> str:
        """The name of a process in the system."""
        return self.standby.name if name == "standby" and self.standby else name

    def wait(self, low: float, high: float) -> None:
        """Let some time pass (seconds)."""
        threading.Event().wait(self.dice.uniform(low, high))


# --- processes that die


def kill_process(stage: Stage) -> None:
    stage.system.kill(stage.dice.choice(APPLICATION))


def kill_web(stage: Stage) -> None:
    stage.system.kill("web")
    stage.system.processes["web"].stop()  # gunicorn's children, which outlive it
    stage.system.start("web")


def kill_sandbox(stage: Stage) -> None:
    system = stage.system
    system.kill("sandbox")
    system.start("sandbox")
    eventually(lambda: system.status("/livez", at=system.sandbox_url) == 200, within=60, what="the sandbox is back")
    misbehave(stage)  # it begins with its defaults


def crash_postgres(stage: Stage) -> None:
    stage.system.crash_postgres()
    stage.system.start_postgres()


def kill_rabbitmq(stage: Stage) -> None:
    stage.system.kill("rabbitmq")
    stage.system.start_rabbitmq()


def wipe_rabbitmq(stage: Stage) -> None:
    stage.system.wipe_rabbitmq()
    stage.system.start_rabbitmq()


# --- processes that stand still


def stop_process(stage: Stage, name: str, *, longer_than_lease: bool) -> None:
    """Stop a process by SIGSTOP, alone or with its children, and let it go on."""
    lease = stage.system.lease
    if name == "intake" and stage.is_synchronous:
        publish(stage)
    family = family_of(stage.system.processes[stage.stopped_name(name)].child.pid)
    chosen = family if stage.dice.random() < 0.5 else [stage.dice.choice(family)]
    with honoured_keys(stage) if name == "sandbox" else nullcontext():
        for pid in chosen:
            send(pid, signal.SIGSTOP)
        try:
            stage.wait(*((1.1 * lease, 2 * lease) if longer_than_lease else (0.05, 0.8 * lease)))
        finally:
            for pid in chosen:
                send(pid, signal.SIGCONT)


def family_of(pid: int) -> list[int]:
    """Return a process and its descendants (proc(5)); elsewhere than on Linux only the process."""
    children: list[str] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            children += file.read_text().split()
    return [pid, *(each for child in children for each in family_of(int(child)))]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def honoured_keys(stage: Stage) -> Iterator[None]:
    """The gateway honours keys while it stands still, and until it has handled what had arrived before.

    It then charges requests later than its grace period allows. A look-up in between finds nothing, and the same
    request is sent again, rightly.
    """
    patch_gateway(stage, forget_keys=False)
    try:
        yield
    finally:
        stage.wait(2 * stage.system.deadline, 2 * stage.system.deadline)
        patch_gateway(stage, forget_keys=stage.forgets_keys)


def patch_gateway(stage: Stage, **settings: object) -> None:
    """Change some of the sandbox's settings, and leave the others."""
    answer = stage.system.http.patch(f"{stage.system.sandbox_url}/settings", json=settings)
    assert answer.status_code == 200, answer.text


def publish(stage: Stage) -> None:
    """Publish requests for payments, some of them twice."""
    name = f"message-{next(_numbers)}"
    arguments = ["--order-id", name, "--idempotency-key", name, "--count", "8"]
    for _ in range(stage.dice.choice([1, 2])):
        stage.system.try_to_manage("publish_payment", *arguments)


# --- resources that run out


def fill_disk(stage: Stage, name: str) -> None:
    """Leave no space on a server's disk for a while. It may end; afterwards it is started again."""
    disk = stage.disks[name]
    disk.fill()
    try:
        stage.wait(0.5, 4)
    finally:
        disk.free()
    stage.start_all()
    if name == "postgres":
        eventually(stage.system.postgres.is_ready, within=60, what="PostgreSQL is back")


def alarm_rabbitmq(stage: Stage) -> None:
    """RabbitMQ takes no message while it finds its disk full."""
    stage.system.rabbitmq.control("set_disk_free_limit", NO_DISK)
    try:
        stage.wait(0.5, 4)
    finally:
        stage.system.rabbitmq.control("set_disk_free_limit", ANY_DISK)


# --- a failover


def fail_over(stage: Stage) -> None:
    """The primary is lost, its standby takes its place, and gets a standby of its own."""
    standby = stage.standby
    assert standby is not None
    state = "sync" if stage.is_synchronous else ""
    eventually(lambda: standby.is_streaming(sync_state=state), within=60, what="the standby streams")
    if stage.is_synchronous:
        # A commit whose wait was broken off, by a crash or a terminated session, is visible before the standby has it.
        standby.await_replay()
    else:
        standby.link.cut()
        stage.wait(0, 3)
    standby.fail_over()
    stage.add_standby()


# --- gateway and connections


def misbehave(stage: Stage) -> None:
    """Another mixture of the gateway's faults."""
    dice = stage.dice
    chosen = dice.sample(sorted(GATEWAY_FAULTS), dice.randrange(len(GATEWAY_FAULTS)))
    stage.system.gateway(
        forget_keys=stage.forgets_keys,
        faults=dict.fromkeys(chosen, 0.08),
        seed=dice.randrange(1000),
        latency=dice.choice([0, 0, 0.1, 0.9]),
        webhook_copies=dice.choice([1, 2]),
        webhook_delay=dice.choice([0, 2]),
        webhook_shuffle=dice.choice([True, False]),
    )


def pause_gateway(stage: Stage) -> None:
    stage.system.manage("gateway", "pause", "sandbox", "--reason", "soak")
    stage.wait(0.5, 2)
    stage.system.manage("gateway", "resume", "sandbox")


Fault = Callable[[Stage], object]
FAILOVER: Final = "PostgreSQL failed over"

FAULTS: Final[dict[str, Fault]] = {
    "a process killed": kill_process,
    "web killed": kill_web,
    "the gateway killed": kill_sandbox,
    "the gateway misbehaves": misbehave,
    "the gateway paused": pause_gateway,
    "PostgreSQL crashed": crash_postgres,
    FAILOVER: fail_over,
    "PostgreSQL's disk full": partial(fill_disk, name="postgres"),
    "the gateway's disk full": partial(fill_disk, name="sandbox"),
    "sessions cut off": lambda stage: stage.system.terminate_sessions(share=0.5),
    "RabbitMQ killed": kill_rabbitmq,
    "RabbitMQ wiped": wipe_rabbitmq,
    "RabbitMQ's disk alarm": alarm_rabbitmq,
    "RabbitMQ's connections cut": lambda stage: stage.system.rabbitmq.control("close_all_connections", "soak"),
    "the queue deleted": lambda stage: stage.system.rabbitmq.control("delete_queue", "payments"),
    **{
        f"{name} stopped {length} than the lease": partial(stop_process, name=name, longer_than_lease=longer)
        for name in STOPPED
        for length, longer in (("shorter", False), ("longer", True))
    },
}
DISKS: Final = {"PostgreSQL's disk full": "postgres", "the gateway's disk full": "sandbox"}


def draw_faults(stage: Stage) -> Iterator[str]:
    """Yield the names of faults without end: all that this machine can make, in another order each time."""
    names = sorted(name for name in FAULTS if name not in DISKS or DISKS[name] in stage.disks)
    while True:
        stage.dice.shuffle(names)
        yield from names
