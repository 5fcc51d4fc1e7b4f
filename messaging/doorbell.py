"""Wakes an idle relay when work was committed; without that the relay finds the work when it next looks.

By PostgreSQL's NOTIFY, in a transaction of its own after the commit. A notification is a convenience: it fails where
the cluster's notification queue is full, which any session of any application can cause, and a commit that notifies
waits for all others that do. Neither may fail or delay the commit of a payment.
https://www.postgresql.org/docs/current/sql-notify.html
"""

import time
from typing import Any, Final

import psycopg
import structlog
from django.db import Error, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

log = structlog.get_logger(__name__)

CHANNEL: Final = "outbox"
#: How long (s) a process waits between two notifications: as long as an idle relay between two looks.
PAUSE: Final = 0.01
#: How long (s) a process sends none after one has failed: the relay looks by itself meanwhile.
PAUSE_AFTER_FAILURE: Final = 30.0
#: A session that notifies holds this advisory lock until it has committed, so that no other one waits for it.
LOCK: Final = 0x62656C6C

#: The lock that NOTIFY takes at its commit is not waited for: another application may hold it for long.
_NOTIFY: Final = f"""
    SELECT set_config('lock_timeout', '50ms', true),
        CASE WHEN pg_try_advisory_xact_lock({LOCK}) THEN pg_notify('{CHANNEL}', '') END
"""  # nosec B608


class Bell:
    """Sends a process's notifications, for all of its threads together."""

    def __init__(self, *, pause: float = PAUSE) -> None:
        self.pause = pause
        self.silent_until = 0.0
        self.has_failed = False

    def rings(self) -> bool:
        """Return whether to notify now. Two threads may both do so, which does no harm."""
        now = time.monotonic()
        if now < self.silent_until:
            return False
        self.silent_until = now + self.pause
        return True

    def ring(self) -> None:
        """Notify the relay, unless this process did so a moment ago. Never raises for what the database says."""
        if not self.rings():
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute(_NOTIFY)
        except Error as error:
            self.silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
            connection.close_if_unusable_or_obsolete()  # a lost connection must not fail the next request
            self._report(failed=True, error=type(error.__cause__ or error).__name__)
        else:
            self._report(failed=False)

    def _report(self, *, failed: bool, **details: str) -> None:
        """Log a failure once, and the recovery."""
        if failed and not self.has_failed:
            log.warning("outbox_notification_failed", **details)
        elif self.has_failed and not failed:
            log.info("outbox_notification_recovered")
        self.has_failed = failed


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
