"""Sessions of PostgreSQL that wait for each other."""

from concurrent.futures import ThreadPoolExecutor

from django.db import OperationalError, connection, connections, transaction

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


def result_elsewhere(work, *, lock_timeout="100ms"):
    """What `work` returns in another session that is rolled back; "waits" where a lock keeps it waiting."""

    def run():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout])
                found = work()
                transaction.set_rollback(True)
                return found
        except OperationalError:
            return "waits"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)
