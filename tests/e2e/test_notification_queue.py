"""PostgreSQL's notification queue is full, as any session of any application can make it: payments are accepted."""

import httpx2
import psycopg
import pytest

from tests.system import System

#: The least that PostgreSQL takes: 64 pages of 8 kB.
SMALL_QUEUE = "max_notify_queue_pages = 64\n"


@pytest.fixture
def full_queue(tmp_path):
    """A system whose notification queue is full: a session of another database listens, and idles in a transaction."""
    system = System(tmp_path, own_postgres=True)
    with (system.postgres.cluster / "postgresql.auto.conf").open("a") as settings:
        settings.write(SMALL_QUEUE)
    try:
        system.set_up()
        with psycopg.connect(system.maintenance_url) as listening:
            listening.execute("LISTEN any_channel")
            listening.commit()
            listening.execute("SELECT 1")
            fill_queue(system.maintenance_url)
            yield system
    finally:
        system.tear_down()


def fill_queue(url):
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            for number in range(10_000):
                connection.execute("SELECT pg_notify('any_channel', %s)", [f"{number:07900d}"])
        except psycopg.errors.ProgramLimitExceeded:
            return
    pytest.fail("the queue takes everything")


def test_payments_are_accepted_and_charged_while_the_notification_queue_is_full(full_queue):
    system = full_queue
    system.start("relay")
    system.start("worker")
    ids = system.accept(20, prefix="full")
    system.await_final(ids)
    system.verify(ids)
    health = httpx2.get(f"{system.url}/health", trust_env=False).json()["parts"]["notification_queue"]
    assert health["status"] == "degraded"
    assert "% full" in health["detail"]
