"""Keeps schedules on time when the database's clock is set back. Runs in the relay process, every second.

Retries, look-ups, leases and outbox rows carry the time at which they are due, by the database's clock. When that clock
is set back by an hour, or a standby whose clock is an hour behind takes over, everything that was scheduled before
would wait an hour longer. The latest time that was ever seen is stored; where the clock is behind it, all scheduled
times are moved by the difference.

Moving a time too early does no harm: a claim checks the payment's state, and a request whose lease ended early is
looked up and not sent again while its call may be under way (`payments.operations.settle`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection, transaction

log = structlog.get_logger(__name__)

#: Smaller steps are ignored: NTP makes them, and retries tolerate them.
TOLERANCE: Final = timedelta(seconds=2)
#: The row is locked until the end of the transaction, so that of several relays one moves the schedules.
_READ: Final = "SELECT latest_at - clock_timestamp() FROM messaging_clockmark WHERE id = 1 FOR NO KEY UPDATE"
_WRITE: Final = """
    INSERT INTO messaging_clockmark (id, latest_at) VALUES (1, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET latest_at = excluded.latest_at
"""
#: Times that are due already stay. Rows that are locked are being worked on, and get a new time by the clock as it is.
_MOVE: Final = """
    UPDATE {table} SET {assignments}
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {table} WHERE {first} > statement_timestamp() FOR NO KEY UPDATE SKIP LOCKED
    ))
"""
_EARLIER: Final = "{column} = CASE WHEN {column} > statement_timestamp() THEN {column} - %(step)s ELSE {column} END"


@transaction.atomic(durable=True)
def run_once() -> int:
    """Store the database's time; where its clock was set back, move all scheduled times. Return how many rows moved."""
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        step: timedelta = (cursor.fetchone() or (timedelta(0),))[0]
        moved = 0
        if step > TOLERANCE:
            moved = sum(_move(table, columns, step) for table, columns in settings.SCHEDULED_COLUMNS.items())
            log.error("database_clock_set_back", seconds=step.total_seconds(), moved=moved)
        cursor.execute(_WRITE)
    return moved


def _move(table: str, columns: Sequence[str], step: timedelta) -> int:
    """Move the times of one table; its first column is indexed and set in every row that has any of them."""
    parameters: dict[str, Any] = {"step": step}
    assignments = ", ".join(_EARLIER.format(column=column) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(_MOVE.format(table=table, assignments=assignments, first=columns[0]), parameters)
        return int(cursor.rowcount)
