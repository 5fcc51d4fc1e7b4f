"""The limits: whether their counter answers."""

from collections.abc import Iterator

from console.doctor.environment import place_of
from console.doctor.finding import Finding, first_line, ok, warning
from merchants import redis_buckets
from merchants.fuse import redis_failures


def counter() -> Iterator[Finding]:
    """Redis, where it is to count; PostgreSQL is looked at anyway."""
    if not redis_buckets.url():
        yield ok("limits", "counted in PostgreSQL")
        return
    where = f"Redis at {place_of(redis_buckets.url())}"
    try:
        redis_buckets.ping()
    except redis_failures() as error:
        says = f"{where} does not answer: {first_line(error)}. Most limits let everything through meanwhile"
        yield warning("limits", says, "Start it, or correct REDIS_URL; or leave that empty, and PostgreSQL counts.")
    else:
        yield ok("limits", f"counted in {where}")
