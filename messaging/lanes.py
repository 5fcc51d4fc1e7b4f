"""What of the outbox is due, and is taken in hand: by lanes, so that the trouble of one holds up no other."""

from collections.abc import Iterable
from typing import Any, Final

from django.db import connection

#: Each has an index of its own: what our queues take, what of that may wait, and events to whoever listens. A room's
#: lane is `IN_ROOM`, with its name.
WORK: Final = "exchange = '' AND subscriber = '' AND NOT waits"
PATIENT: Final = "exchange = '' AND subscriber = '' AND waits"
EVENTS: Final = "exchange <> ''"
IN_ROOM: Final = "subscriber <> '' AND subscriber = %s"
#: All that goes to the broker.
EVERYTHING: Final = "subscriber = ''"

DUE: Final = "SELECT {columns} FROM messaging_outboxmessage WHERE {lane} AND available_at <= statement_timestamp()"
#: By hand: the ORM takes longer than PostgreSQL to make models of as many.
LOCKED: Final = DUE + " ORDER BY available_at, id LIMIT {batch:d} FOR UPDATE SKIP LOCKED"
FOUND: Final = f"SELECT EXISTS ({DUE})"


def is_due(lane: str) -> bool:
    """Whether anything is: one statement, where to lock a batch takes three to find nothing."""
    with connection.cursor() as cursor:
        cursor.execute(FOUND.format(columns="", lane=lane))
        return bool(cursor.fetchone()[0])


def lock_due(lane: str, *values: str, columns: Iterable[str], batch: int) -> list[tuple[Any, ...]]:
    """Columns (JSON as text) of what is due, oldest first, locked; without what somebody else has locked."""
    with connection.cursor() as cursor:
        cursor.execute(LOCKED.format(columns=", ".join(columns), lane=lane, batch=batch), values)
        return list(cursor.fetchall())
