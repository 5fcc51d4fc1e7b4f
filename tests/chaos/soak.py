"""`python -m tests.chaos.soak --minutes 10`: the whole system under load, for any time, while everything fails.

Faults come one after another, in an order drawn by a seed: processes killed and stopped, PostgreSQL crashed and failed
over to a standby, disks full, sessions cut off, RabbitMQ killed, wiped or cut off, a gateway that does all it can.
Every few minutes the faults stop, the system must come to rest, and the gateway's journal is compared with the
database, and what a receiver and a mail server got with what was to be sent.

Rounds take turns. In one, commits wait for the standby and the gateway forgets its keys: whatever is sent twice is
charged twice. In the next, a failover loses commits; the gateway honours its keys, and clients repeat their requests.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.local.machine import CannotStart
from deploy.local.testbed import install_rabbitmq
from tests.chaos.faults import FAILOVER, FAULTS, Stage, draw_faults
from tests.chaos.listeners import Listeners
from tests.chaos.load import load
from tests.chaos.small_disk import SmallDisk, can_mount
from tests.system import FINAL, System, eventually

#: Minutes of faults before each verification, at most: a short run has a round of both kinds.
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
#: Thousands of deliveries may be due at the end of a round, on a machine that does other work as well.
AWAIT_DELIVERIES_SECONDS: Final = 900
RECEIPT: Final = {"receipt_email": "payer@example.org"}
METHODS: Final = ("pm_ok", "pm_ok", "pm_ok", "pm_declined", "pm_flaky_2", "pm_down", "pm_timeout_not_charged")


def main() -> int:
    """0 when nothing was lost and nothing doubled."""
    parser = argparse.ArgumentParser(prog="make soak", description="Load and faults, verified by the journal.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="to repeat a run")
    options = parser.parse_args()
    print(f"soak: {options.minutes:g} minutes, seed {options.seed}", flush=True)
    try:
        install_rabbitmq()
    except CannotStart as reason:
        print(reason, file=sys.stderr)
        return 1
    disks: dict[str, SmallDisk] = {}
    with tempfile.TemporaryDirectory(prefix="payments-soak-") as folder:
        if can_mount():
            disks = {"postgres": SmallDisk(Path(folder) / "databases"), "sandbox": SmallDisk(Path(folder) / "sandbox")}
        else:
            print("soak: without full disks, which take Linux and root", flush=True)
        try:
            return run(Path(folder), disks, minutes=options.minutes, seed=options.seed)
        finally:
            for disk in disks.values():
                disk.unmount()


def run(folder: Path, disks: dict[str, SmallDisk], *, minutes: float, seed: int) -> int:
    """Start the system and its listeners, and run the soak."""
    system = System(folder, own_postgres=True, proxied=True)
    # At the end the logs are searched for the secrets of the settings.
    os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", **system.env}
    try:
        system.set_up()
        listeners = Listeners(system)
        system.env |= listeners.env
        return soak(Stage(system, random.Random(seed), disks), listeners, minutes=minutes)
    finally:
        system.tear_down()


def soak(stage: Stage, listeners: Listeners, *, minutes: float) -> int:
    """Round after round until the time is over; prints what happened, round by round and in all."""
    system = stage.system
    began = time.monotonic()
    faults: Counter[str] = Counter()
    names = draw_faults(stage)
    ids: list[str] = []
    number = forgotten = 0
    while number < 2 or time.monotonic() < began + minutes * 60:
        number += 1
        stage.start(is_synchronous=number % 2 == 1)
        until = time.monotonic() + min(ROUND, minutes / 2) * 60
        with load(system, f"soak-{number}", stage.dice, METHODS, pause=PAUSE, **RECEIPT) as clients:
            cause_faults(stage, names, until, faults)
        if not stage.is_synchronous:
            forgotten += clients.repeat_all()
        ids += clients.ids
        try:
            heal(stage)
            listeners.await_all(within=AWAIT_DELIVERIES_SECONDS)
            sent = listeners.verify(lost_events_allowed=not stage.is_synchronous)
            system.verify(ids, by="order_id")
        except AssertionError as failure:
            print(
                report(system, ids, faults, forgotten), f"FAILED: {failure}", *unfinished(system), sep="\n", flush=True
            )
            return 1
        print(f"{report(system, ids, faults, forgotten)}, {sent}", flush=True)
    return 0


def cause_faults(stage: Stage, names: Iterator[str], until: float, faults: Counter[str]) -> None:
    """Cause one fault after another until then (monotonic seconds), and a failover in each round; count them."""
    before = faults[FAILOVER]
    while time.monotonic() < until:
        cause(stage, next(names), faults)
    if faults[FAILOVER] == before:
        cause(stage, FAILOVER, faults)


def cause(stage: Stage, name: str, faults: Counter[str]) -> None:
    """Cause a fault, count it, let some time pass, and start again what it has killed."""
    FAULTS[name](stage)
    faults[name] += 1
    stage.wait(*PAUSES)
    stage.start_all()


def heal(stage: Stage) -> None:
    """A gateway in order, all processes there, and nobody waits for what is minutes away: a look-up, or the rescue.

    The rescue doubles its patience with each revival, so after a few wiped brokers it comes late; here time passes.
    """
    system = stage.system
    system.gateway(forget_keys=stage.forgets_keys)
    stage.start_all()
    for _ in range(HURRIES):
        if await_rest(system):
            return
        system.query(PASS_TIME)
        waiting = "SELECT id::text FROM payments_payment WHERE status = 'unknown'"
        if ids := [row["id"] for row in system.query(waiting)]:
            system.manage("retry_now", *ids)


def await_rest(system: System) -> bool:
    """Return whether all payments end within a while.

    What may have been sent and is refused since stays unknown, rightly: it is looked up for days.
    """
    open_ = (
        "SELECT FROM payments_payment WHERE status <> ALL(%s)"
        " AND NOT (status = 'unknown' AND payment_method = 'pm_down' AND lease_expires_at IS NULL)"
    )
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


def report(system: System, ids: list[str], faults: Counter[str], forgotten: int) -> str:
    """Return the figures so far. Each request has an order of its own, so charges are counted by order."""
    replays = system.query("SELECT coalesce(sum(replays), 0)::int AS total FROM payments_idempotencykey")[0]["total"]
    charges = Counter(entry["order_id"] for entry in system.charges())
    known = system.query("SELECT id::text, order_id, amount_captured FROM payments_payment")
    paid = {row["order_id"] for row in known if row["amount_captured"]}
    lost = len(set(ids) - {row["id"] for row in known}) + len(charges.keys() - paid)
    doubled = sum(count - 1 for count in charges.values())
    caused = ", ".join(f"{count} x {name}" for name, count in faults.most_common())
    return (
        f"payments {len(known)} ({dict(system.statuses(ids))}), faults {faults.total()} ({caused}), "
        f"duplicates absorbed {replays}, forgotten by failovers and requested again {forgotten}, "
        f"lost {lost}, doubled {doubled}"
    )


if __name__ == "__main__":
    sys.exit(main())
