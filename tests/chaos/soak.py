"""`python -m tests.chaos.soak --minutes 10`: the whole system under load, for as long as you like, while all breaks.

Faults come one after another, drawn by a seed: processes killed, PostgreSQL crashed, sessions cut off, RabbitMQ
killed, wiped or cut off, a gateway that does all it can. Every few minutes the faults stop, the system must come
to rest, and the gateway's journal is compared with what we know, and what a receiver and a mail server have heard
with what was to be told.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.local.machine import CannotStart
from deploy.local.testbed import install_rabbitmq
from tests.chaos.listeners import Listeners
from tests.chaos.load import load
from tests.chaos.test_gateway import FAULTS
from tests.system import FINAL, System, eventually

#: Minutes of faults before each look at the books.
ROUND: Final = 3.0
#: Seconds between two faults.
PAUSES: Final = (0.2, 3.0)
#: How often, at rest, what is still unknown is looked up before its time.
HURRIES: Final = 8
#: Seconds between two rounds of requests: two cores, which also carry all the servers, keep up with that.
PAUSE: Final = 0.5
PASS_TIME: Final = (
    "UPDATE payments_payment SET revive_at = now()"
    " WHERE revive_at > now() AND lease_expires_at IS NULL AND held_since IS NULL RETURNING id"
)
RECEIPT: Final = {"receipt_email": "payer@example.org"}
WORKERS: Final = ("-a", "-b")
METHODS: Final = ("pm_ok", "pm_ok", "pm_ok", "pm_declined", "pm_flaky_2", "pm_down", "pm_timeout_not_charged")


def main() -> int:
    """0 when nothing was lost and nothing doubled."""
    parser = argparse.ArgumentParser(prog="make soak", description="Load and faults, and an independent witness.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="to repeat a run")
    options = parser.parse_args()
    print(f"soak: {options.minutes:g} minutes, seed {options.seed}", flush=True)
    try:
        install_rabbitmq()
    except CannotStart as reason:
        print(reason, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="payments-soak-") as folder:
        system = System(Path(folder), own_postgres=True)
        try:
            system.set_up()
            listeners = Listeners(system)
            system.env |= listeners.env
            return soak(system, listeners, minutes=options.minutes, dice=random.Random(options.seed))
        finally:
            system.tear_down()


def soak(system: System, listeners: Listeners, *, minutes: float, dice: random.Random) -> int:
    """Round after round until the time is over; prints what happened, round by round and in all."""
    start_all(system)
    ends = time.monotonic() + minutes * 60
    faults: Counter[str] = Counter()
    ids: list[str] = []
    number = 0
    while time.monotonic() < ends:
        number += 1
        until = min(ends, time.monotonic() + ROUND * 60)
        with load(system, f"soak-{number}", dice, METHODS, pause=PAUSE, **RECEIPT) as clients:
            faults += break_things(system, dice, until)
        ids += clients.ids
        try:
            heal(system)
            listeners.await_all(within=120)
            told = listeners.verify()
            system.verify(ids)
        except AssertionError as failure:
            print(report(system, ids, faults), f"FAILED: {failure}", *unfinished(system), sep="\n", flush=True)
            return 1
        print(f"{report(system, ids, faults)}, {told}", flush=True)
        start_all(system)
    return 0


def start_all(system: System) -> None:
    """All processes that a fault may have killed."""
    for name, instance in [("relay", ""), *(("worker", instance) for instance in WORKERS)]:
        if (running := system.processes.get(name + instance)) is None or running.pid is None:
            system.start(name, instance=instance)


def break_things(system: System, dice: random.Random, until: float) -> Counter[str]:
    """One fault after another until then (monotonic seconds); how many of which."""
    count: Counter[str] = Counter()
    moment = threading.Event()
    names = sorted(BREAK)
    while time.monotonic() < until:
        name = dice.choice(names)
        BREAK[name](system, dice)
        count[name] += 1
        moment.wait(dice.uniform(*PAUSES))
        start_all(system)
    return count


def kill_process(system: System, dice: random.Random) -> None:
    """One of ours, and it starts again."""
    names = ["relay", *(f"worker{instance}" for instance in WORKERS)]
    system.kill(dice.choice(names))


def kill_web(system: System, dice: random.Random) -> None:
    system.kill("web")
    system.processes["web"].stop()  # gunicorn's children, which outlive it
    system.start("web")


def kill_sandbox(system: System, dice: random.Random) -> None:
    system.kill("sandbox")
    system.start("sandbox")
    eventually(lambda: system.status("/livez", at=system.sandbox_url) == 200, within=30, what="the sandbox is back")


def crash_postgres(system: System, dice: random.Random) -> None:
    system.crash_postgres()
    system.start_postgres()


def kill_rabbitmq(system: System, dice: random.Random) -> None:
    system.kill("rabbitmq")
    system.start_rabbitmq()


def wipe_rabbitmq(system: System, dice: random.Random) -> None:
    system.wipe_rabbitmq()
    system.start_rabbitmq()


def misbehave(system: System, dice: random.Random) -> None:
    """Another mixture of the gateway's faults; what it is asked twice, it does twice."""
    chosen = dice.sample(sorted(FAULTS), dice.randrange(len(FAULTS)))
    system.gateway(
        forget_keys=True,
        faults=dict.fromkeys(chosen, 0.08),
        seed=dice.randrange(1000),
        latency=dice.choice([0, 0, 0.1, 0.9]),
        webhook_copies=dice.choice([1, 2]),
        webhook_delay=dice.choice([0, 2]),
        webhook_shuffle=dice.choice([True, False]),
    )


def pause_gateway(system: System, dice: random.Random) -> None:
    system.manage("gateway", "pause", "sandbox", "--reason", "soak")
    threading.Event().wait(dice.uniform(0.5, 2))
    system.manage("gateway", "resume", "sandbox")


BREAK: Final[dict[str, Callable[[System, random.Random], None]]] = {
    "a process of ours killed": kill_process,
    "web killed": kill_web,
    "the gateway killed": kill_sandbox,
    "the gateway misbehaves": misbehave,
    "the gateway paused": pause_gateway,
    "PostgreSQL crashed": crash_postgres,
    "sessions cut off": lambda system, _dice: system.terminate_sessions(share=0.5),
    "RabbitMQ killed": kill_rabbitmq,
    "RabbitMQ wiped": wipe_rabbitmq,
    "RabbitMQ's connections cut": lambda system, _dice: system.rabbitmq.control("close_all_connections", "soak"),
    "the queue deleted": lambda system, _dice: system.rabbitmq.control("delete_queue", "payments"),
}


def heal(system: System) -> None:
    """A gateway in order, all processes there, and nobody waits for what is minutes away: a look-up, or the rescue.

    The rescue doubles its patience with each revival, so after a few wiped brokers it comes late; here time passes.
    """
    system.gateway(forget_keys=True)
    start_all(system)
    for _ in range(HURRIES):
        if await_rest(system):
            return
        system.query(PASS_TIME)
        waiting = "SELECT id::text FROM payments_payment WHERE status = 'unknown'"
        if ids := [row["id"] for row in system.query(waiting)]:
            system.manage("retry_now", *ids)


def await_rest(system: System) -> bool:
    """Whether all payments end within a while. What may have been sent and is refused since stays unknown, rightly."""
    open_ = "SELECT FROM payments_payment WHERE status <> ALL(%s)"
    try:
        eventually(lambda: not system.query(open_, sorted(FINAL)), within=20)
    except AssertionError:
        return False
    return True


def unfinished(system: System) -> list[str]:
    """The story of the payments that did not end."""
    stories = system.query(
        "SELECT payment.id::text, payment.status, payment_method, lookups, retries, error_detail, held_since,"
        " next_attempt_at, revive_at, lease_expires_at, now(), array_agg(kind || ' ' || outcome ORDER BY attempt.id)"
        " FROM payments_payment AS payment LEFT JOIN payments_attempt AS attempt ON attempt.payment_id = payment.id"
        " WHERE payment.status <> ALL(%s) GROUP BY payment.id LIMIT 10",
        sorted(FINAL),
    )
    return [", ".join(f"{name}: {value}" for name, value in story.items()) for story in stories]


def report(system: System, ids: list[str], faults: Counter[str]) -> str:
    """What there is to say after a round."""
    replays = system.query("SELECT coalesce(sum(replays), 0)::int AS total FROM payments_idempotencykey")[0]["total"]
    charges = Counter(entry["payment_id"] for entry in system.journal())
    known = system.query("SELECT id::text, amount_captured FROM payments_payment")
    lost = len(set(ids) - {row["id"] for row in known}) + sum(
        row["amount_captured"] == 0 and row["id"] in charges for row in known
    )
    doubled = sum(count - 1 for count in charges.values())
    broken = ", ".join(f"{count} x {name}" for name, count in faults.most_common())
    return (
        f"payments {len(ids)} ({dict(system.statuses(ids))}), faults {faults.total()} ({broken}), "
        f"duplicates absorbed {replays}, lost {lost}, doubled {doubled}"
    )


if __name__ == "__main__":
    sys.exit(main())
