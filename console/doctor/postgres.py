"""PostgreSQL: whether it answers, keeps what it confirms, and has what this release needs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pgtrigger
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from console.doctor.finding import Finding, failed, first_line, ok, warning
from core.triggers import weakened
from messaging.commit_durability import WEAK_VALUES

#: The oldest major version that the tests run against.
OLDEST: Final = 15
#: Leases and schedules go by the database's clock, logs and heartbeats by ours: people who compare them are misled.
CLOCKS_APART: Final = timedelta(seconds=1)
#: Share of the notification queue that is in use. It is nearly empty unless a listening session idles.
NOTIFICATION_QUEUE_LIMIT: Final = 0.5
#: Setting of the server -> what happens where it is off.
SERVER_SETTINGS: Final = {
    "fsync": "a crash of its machine loses accepted payments, or the whole database",
    "full_page_writes": "a crash of its machine can leave pages that are half old and half new",
}
DURABLE: Final = (*SERVER_SETTINGS, "synchronous_commit")
#: What pgtrigger says of a trigger that is there as the code has it.
IN_FORCE: Final = "installed"
#: What we say of one whose function is another than the code has.
WEAKENED: Final = "weakened (its function was replaced)"


def server() -> Iterator[Finding]:
    """It answers, is new enough and can be written to."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), pg_is_in_recovery()")
            version, is_replica = cursor.fetchone()
    except Error as error:
        connection.close()
        mend = "Start it, or correct DATABASE_URL. Until then no payment is accepted."
        yield failed("PostgreSQL", f"cannot be used: {first_line(error)}", mend)
        return
    if int(version.partition(".")[0]) < OLDEST:
        yield failed("PostgreSQL", f"{version} is too old", f"Upgrade it to {OLDEST} or newer.")
    elif is_replica:
        yield failed("PostgreSQL", "is a replica and takes no writes", "Let DATABASE_URL name the primary.")
    else:
        yield ok("PostgreSQL", version)


def durability() -> Iterator[Finding]:
    """Check that a commit which was confirmed is on disk. That no accepted payment is lost depends on it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, setting, reset_val FROM pg_settings WHERE name = ANY(%s)", [list(DURABLE)])
        found = {name: (setting, default) for name, setting, default in cursor.fetchall()}
        cursor.execute("SELECT current_user")
        (role,) = cursor.fetchone()
    faults = list(judge_durability(found, role))
    yield from faults or [ok("durability", "what it confirms is on its disk")]


def judge_durability(found: dict[str, tuple[str, str]], role: str) -> Iterator[Finding]:
    """Yield a finding for each setting that can lose a commit. `found`: setting -> its value here and its default."""
    for name, consequence in SERVER_SETTINGS.items():
        if found[name][0] == "off":
            fix = f"ALTER SYSTEM SET {name} = on, remove it from the server's command line, and restart the server."
            yield failed("durability", f"{name} = off: {consequence}", fix)
    value, default = found["synchronous_commit"]
    fix = f"ALTER ROLE {role} SET synchronous_commit = on, and restart the processes."
    if value in WEAK_VALUES:
        yield failed(
            "durability", f"synchronous_commit = {value} in this session: a crash loses accepted payments", fix
        )
    elif default in WEAK_VALUES:
        says = (
            f"synchronous_commit = {default} by default: our sessions raise it, those of a transaction pooler may not"
        )
        yield warning("durability", says, fix)


def migrations() -> Iterator[Finding]:
    """All of this release's are applied, also those in the middle."""
    loader = MigrationLoader(connection)
    names = [".".join(key) for key in sorted(set(loader.graph.nodes) - set(loader.applied_migrations))]
    if not names:
        yield ok("migrations", "all applied")
        return
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    yield failed("migrations", f"not applied: {shown}", "Run `manage.py migrate`.")


def triggers() -> Iterator[Finding]:
    """The triggers that hold the invariants against raw SQL are there, switched on, and unchanged in every part."""
    states = {trigger.get_uri(model): state_of(model, trigger) for model, trigger in pgtrigger.registered()}
    states |= {name: WEAKENED for name in weakened() if states[name] == IN_FORCE}
    faults = [f"{name} is {state}" for name, state in states.items() if state != IN_FORCE]
    if not faults:
        yield ok("triggers", f"all {len(states)} installed")
        return
    says = f"{'; '.join(faults[:3])}{' …' if len(faults) > 3 else ''}: raw SQL could break what must never be false"
    yield failed(
        "triggers", says, "Run `manage.py migrate`, then `manage.py pgtrigger install` and `pgtrigger enable`."
    )


def state_of(model: Any, trigger: Any) -> str:
    """How a trigger stands in the database, in one word or two."""
    status, enabled = trigger.get_installation_status(model)
    return str(status.lower()) if enabled or status != "INSTALLED" else "switched off"


def clock() -> Iterator[Finding]:
    """Its clock and that of this machine."""
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs = cursor.fetchone()[0]
    yield judge_clock(theirs - (before + (timezone.now() - before) / 2))


def notifications() -> Iterator[Finding]:
    """Check that the notification queue, which all databases of the cluster share, has room."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notification_queue_usage()")
        usage: float = cursor.fetchone()[0]
    if usage < NOTIFICATION_QUEUE_LIMIT:
        yield ok("notification queue", f"{usage:.0%} full")
        return
    says = f"{usage:.0%} full: new payments wait for the relay's poll"
    yield warning(
        "notification queue",
        says,
        "A session that listens idles in a transaction; find and end it: SELECT pid, datname, application_name,"
        " xact_start FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY xact_start;",
    )


def judge_clock(ahead: timedelta) -> Finding:
    """By how much PostgreSQL's clock is ahead of ours, and whether that matters."""
    if abs(ahead) <= CLOCKS_APART:
        return ok("clock", "PostgreSQL's and this machine's agree")
    side = "ahead of" if ahead > timedelta(0) else "behind"
    says = f"PostgreSQL's is {abs(ahead).total_seconds():.1f} s {side} this machine's"
    return warning("clock", says, "Have both machines set their clocks by NTP (chrony, systemd-timesyncd).")
