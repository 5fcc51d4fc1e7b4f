"""PostgreSQL's standbys: whether one can be promoted that lacks a commit which clients have an answer for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from django.db import connection

from console.doctor.finding import Finding, failed, ok, warning

WHAT: Final = "replication"
#: Physical standbys that are connected. Base backups in progress and subscribers of logical replication are none.
STANDBYS: Final = """
    SELECT coalesce(application_name, ''), sync_state
    FROM pg_stat_replication AS sender
    WHERE state IS DISTINCT FROM 'backup' AND application_name IS DISTINCT FROM 'pg_basebackup' AND NOT EXISTS (
        SELECT FROM pg_replication_slots WHERE active_pid = sender.pid AND slot_type = 'logical'
    )
    ORDER BY application_name
"""
#: Slots that keep the log for a standby which is not connected.
UNUSED_SLOTS: Final = """
    SELECT slot_name FROM pg_replication_slots
    WHERE slot_type = 'physical' AND NOT active AND NOT temporary
    ORDER BY slot_name
"""
SETTING: Final = "SELECT current_setting('synchronous_standby_names'), current_user"
#: `ANY 1 (a, b)`: a commit waits for so many of the standbys.
QUORUM: Final = re.compile(r"\s*ANY\s+(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Standby:
    """A connected standby; `sync_state` is None where the role may not see it."""

    name: str
    sync_state: str | None


@dataclass(frozen=True, slots=True)
class Replication:
    """What the server shows of its standbys. `names` is `synchronous_standby_names`."""

    names: str = ""
    standbys: tuple[Standby, ...] = ()
    unused_slots: tuple[str, ...] = ()
    role: str = ""

    @property
    def synchronous(self) -> list[Standby]:
        """Standbys that commits wait for."""
        return [standby for standby in self.standbys if standby.sync_state in {"sync", "quorum"}]

    @property
    def is_hidden(self) -> bool:
        """Whether the role may not see the state of the standbys."""
        return any(standby.sync_state is None for standby in self.standbys)

    @property
    def may_lag(self) -> list[str]:
        """Standbys of which one can lack a commit, where others are synchronous."""
        quorum = QUORUM.match(self.names)
        waits_for_all = quorum is None or int(quorum[1]) >= len(self.synchronous)
        safe = self.synchronous if waits_for_all else []
        return [standby.name for standby in self.standbys if standby not in safe] + list(self.unused_slots)


def standbys() -> Iterator[Finding]:
    """Commits wait for every standby that could be promoted."""
    yield judge_replication(read_replication())


def read_replication() -> Replication:
    """Return what the connection's role can see of the server's standbys."""
    with connection.cursor() as cursor:
        cursor.execute(SETTING)
        names, role = cursor.fetchone()
        cursor.execute(STANDBYS)
        connected = tuple(Standby(name, state) for name, state in cursor.fetchall())
        cursor.execute(UNUSED_SLOTS)
        slots = tuple(name for (name,) in cursor.fetchall())
    return Replication(names=names.strip(), standbys=connected, unused_slots=slots, role=role)


def judge_replication(found: Replication) -> Finding:
    """Return the finding about the standbys."""
    if not found.names:
        return _judge_asynchronous(found)
    if found.is_hidden:
        says = f"role {found.role} may not see whether the {len(found.standbys)} standbys are synchronous"
        return warning(WHAT, says, f"As a superuser: GRANT pg_read_all_stats TO {found.role}.")
    if not found.synchronous:
        says = f"synchronous_standby_names = {found.names}, and no such standby is connected: commits wait for one"
        fix = "Start that standby; where there is none any more, correct synchronous_standby_names and reload."
        return failed(WHAT, says, fix)
    if found.may_lag:
        says = f"{', '.join(found.may_lag)} can lack commits that clients have an answer for"
        names = ", ".join(standby.name for standby in found.synchronous)
        return warning(WHAT, says, f"Have the failover promote only the most advanced of: {names}.")
    return ok(WHAT, f"commits wait for {', '.join(standby.name for standby in found.synchronous)}")


def _judge_asynchronous(found: Replication) -> Finding:
    """Return the finding about a server that waits for no standby."""
    if found.standbys:
        names = [standby.name for standby in found.standbys if standby.name]
        members = ", ".join(f'"{name}"' for name in names) or "*"
        says = f"{', '.join(names) or 'a standby'} is asynchronous: promoted, it lacks the last accepted payments"
        fix = f"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ({members})'; SELECT pg_reload_conf();"
        return failed(WHAT, says, f"{fix} docs/disaster-recovery.md has the choices.")
    if found.unused_slots:
        slots = ", ".join(found.unused_slots)
        says = f"the standby of slot {slots} is not connected and asynchronous: promoted, it lacks accepted payments"
        fix = f"Drop the slot where that standby is gone: SELECT pg_drop_replication_slot('{found.unused_slots[0]}');"
        return failed(WHAT, says, f"{fix} Otherwise reconnect it and set synchronous_standby_names.")
    return ok(WHAT, "no standby that could be promoted")
