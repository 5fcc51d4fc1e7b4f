"""Sessions of PostgreSQL that wait for each other."""

from django.db import connection

from tests.system import eventually


def await_lock_waiter():
    """Return once another session waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with connection.cursor() as cursor:

        def somebody_waits():
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction, it is kept
            cursor.execute(query)
            return cursor.fetchone()[0]

        eventually(somebody_waits, within=10, what="a session waits for a lock")
