"""The two counters of limits: PostgreSQL, and a private Redis that a test may stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.redis import Redis, find_redis
from deploy.local.supervisor import Process


@contextmanager
def private_redis(folder: Path) -> Iterator[tuple[Redis, Process]]:
    """A server that is there."""
    found = find_redis()
    assert found, "these tests need a redis-server on the machine"
    server = Redis(folder, found)
    process = server.process()
    process.start()
    try:
        process.await_ready(server.is_ready)
        yield server, process
    finally:
        process.stop(timeout=5)


def by_redis(settings: object, url: str, *, timeout: float = 30.0) -> None:
    """Count in this Redis from now on. `timeout` (s): longer than a Redis that is well takes on a busy machine."""
    options = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {**settings.CACHES, "counters": {"BACKEND": backend, "LOCATION": url, "OPTIONS": options}}
