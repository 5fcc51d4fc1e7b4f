"""Work that is committed wakes an idle relay, which otherwise finds it when it next looks.

By PostgreSQL's NOTIFY: it is heard once its transaction is committed, and not at all if it is rolled back. Commits that
notify wait for each other, up to the transaction's `lock_timeout`; so a process rings only so often, and only where
nobody else is ringing. Who comes right after is found at the relay's next look, as is everything that does not ring.
https://www.postgresql.org/docs/current/sql-notify.html
"""

import time
from typing import Any, Final

import psycopg
from django.db import Error, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

CHANNEL: Final = "outbox"
#: How long (s) a process waits between two rings: as long as an idle relay between two looks.
PAUSE: Final = 0.01
#: Who rings holds this until it has committed: a number of our own among PostgreSQL's advisory locks ("bell" in ASCII).
LOCK: Final = 0x62656C6C

#: Part of a larger statement, whose SELECT must name it; its parameter `rings` is whether to ring.
RUNG: Final = f"""
    rung AS MATERIALIZED (
        SELECT CASE WHEN %(rings)s THEN
            CASE WHEN pg_try_advisory_xact_lock({LOCK}) THEN pg_notify('{CHANNEL}', '') END
        END
    )
"""  # our own  # nosec B608


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
        self.has_heard = False

    def forget(self) -> None:
        """What was heard so far is known."""
        self.has_heard = False

    def socket(self) -> int | None:
        """What can be read from once the bell rings, until the next statement; None where nothing can be heard.

        What has come already, with an answer to something else, has been heard.
        """
        try:
            if connection.connection is None or connection.connection is not self.listens_over:
                self.listen()
            self.has_heard |= connection.connection.pgconn.notifies() is not None
            return int(connection.connection.fileno())
        except (Error, psycopg.Error, OSError):  # whoever asks it something next meets the trouble, and tells it
            self.listens_over = None
            return None

    def listen(self) -> None:
        """Begin to."""
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        connection.connection.add_notify_handler(self.hear)
        self.listens_over = connection.connection

    def hear(self, _notice: Any) -> None:
        """It has rung."""
        self.has_heard = True


def install() -> None:
    """Have no connection keep notices that nobody asked for, as psycopg would: a pooler may send them to anybody."""
    connection_created.connect(expect_notices, dispatch_uid="messaging.doorbell")


def expect_notices(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Of a new connection."""
    connection.connection.add_notify_handler(ignore)


def ignore(_notice: Any) -> None:
    """Nothing is to be done."""
