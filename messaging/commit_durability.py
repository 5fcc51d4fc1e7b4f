"""Make every session of Django wait until its commits are durable.

`synchronous_commit` below `on` answers before the commit is on disk, or before the synchronous standby has it on
disk. A crash or a failover then loses a commit that a client has an answer for, or after which the gateway was called.
https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT
"""

from typing import Any, Final

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

#: Values that are raised. `remote_apply` is stronger than `on` and stays, so this is no fixed option of the connection.
WEAK_VALUES: Final = ("off", "local", "remote_write")
RAISE_TO_ON: Final = f"""
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('{"', '".join(WEAK_VALUES)}')
"""  # constants of this module  # nosec B608


def install() -> None:
    """Apply the setting to each new connection: one round trip, and connections live as long as their thread."""
    connection_created.connect(raise_synchronous_commit, dispatch_uid="messaging.commit_durability")


def raise_synchronous_commit(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Set `synchronous_commit` to `on` where the server, the database or the role has less.

    Raises:
        Error: the statement failed. The connection is closed, so that no later statement uses it without the setting.
    """
    try:
        with connection.wrap_database_errors:
            connection.connection.execute(RAISE_TO_ON)
    except Error:
        connection.close()
        raise
