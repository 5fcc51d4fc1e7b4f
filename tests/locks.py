"""Sessions of PostgreSQL that wait for each other."""

import pytest
from django.db import connection


def await_lock_waiter():
    """Return once another session waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with connection.cursor() as cursor:
        for _ in range(10_000):
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction, it is kept
            cursor.execute(query)
            if cursor.fetchone()[0]:
                return
    pytest.fail("no session waits for a lock")
