"""Work that is committed wakes an idle relay, which otherwise finds it when it next looks.

By PostgreSQL's NOTIFY: it is heard once its transaction is committed, and not at all if it is rolled back. Commits that
notify wait for each other, so a process rings only so often; who comes right after is found at the relay's next look,
as is everything where nothing is heard (a pooler in transaction mode keeps it away).
https://www.postgresql.org/docs/current/sql-notify.html
"""

import time
from typing import Any, Final

from django.db import Error, connection

CHANNEL: Final = "outbox"
#: How long (s) a process waits between two rings: as long as an idle relay between two looks.
PAUSE: Final = 0.01

#: Part of a larger statement, whose SELECT must name it; its parameter `rings` is whether to ring.
RUNG: Final = f"rung AS MATERIALIZED (SELECT CASE WHEN %(rings)s THEN pg_notify('{CHANNEL}', '') END)"


class Bell:
    """What a process rings; all of its threads together."""

    def __init__(self, *, pause: float = PAUSE) -> None:
        self.pause = pause
        self.silent_until = 0.0

    def rings(self) -> bool:
        """Whether to ring now. Two threads may both be told to, which harms nobody."""
        now = time.monotonic()
        if now < self.silent_until:
            return False
        self.silent_until = now + self.pause
        return True


bell: Final = Bell()


class Listener:
    """Hears the bell over its thread's connection to PostgreSQL, and over each new one after that."""

    def __init__(self) -> None:
        self.listens_over: Any = None

    def socket(self) -> int | None:
        """What can be read from once the bell has rung, until the next statement; None where nothing can be heard."""
        try:
            if connection.connection is None or connection.connection is not self.listens_over:
                self.listen()
            return int(connection.connection.fileno())
        except (Error, OSError):  # whoever asks it something next meets the trouble, and tells it
            self.listens_over = None
            return None

    def listen(self) -> None:
        """Begin to."""
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        connection.connection.add_notify_handler(ignore)
        self.listens_over = connection.connection


def ignore(_notice: Any) -> None:
    """That it can be read is all there is to it; without a handler psycopg would keep each one."""
