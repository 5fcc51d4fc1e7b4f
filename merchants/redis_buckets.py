"""Token buckets in Redis: one script for each request, by Redis' own clock."""

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

if TYPE_CHECKING:
    import redis

#: Microseconds everywhere. KEYS: the bucket. ARGV: the interval between two tokens, how long an empty bucket takes to
#: fill, and how many tokens are asked for: all of them or none. Answers 1 or 0, and how long until it is full. A full
#: bucket is none: the key expires at that moment.
TAKE: Final = """
    local clock = redis.call('TIME')
    local now = clock[1] * 1000000 + clock[2]
    local interval, whole = tonumber(ARGV[1]), tonumber(ARGV[2])
    local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
    if full_at > now + whole + 1000000 then
        full_at = now + whole - interval
    end
    local granted, taken = 0, interval * tonumber(ARGV[3])
    if full_at + taken <= now + whole then
        granted = 1
        full_at = full_at + taken
        redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
    end
    return {granted, full_at - now}
"""
GIVE_BACK: Final = """
    local full_at = redis.call('GET', KEYS[1])
    if full_at then
        redis.call('SET', KEYS[1], string.format('%.0f', tonumber(full_at) - ARGV[1]), 'KEEPTTL')
    end
"""


def url() -> str:
    """Where Redis is; empty where PostgreSQL counts."""
    return str(settings.CACHES["counters"].get("LOCATION", ""))


@cache
def connected(location: str) -> "redis.Redis":
    """A client for all threads of this process."""
    import redis  # noqa: PLC0415  # 4 MB for nothing where PostgreSQL counts

    options: dict[str, Any] = settings.CACHES["counters"].get("OPTIONS", {})
    return redis.Redis(connection_pool=redis.ConnectionPool.from_url(location, **options))


@cache
def script(location: str, text: str) -> Any:
    """A script that is sent once and then named by its hash."""
    return connected(location).register_script(text)


def take(key: str, *, burst: int, interval: int, number: int = 1) -> tuple[bool, float]:
    """As `LocalBuckets.take`, one token or so many or none; the interval is in microseconds.

    Raises:
        redis.RedisError: it does not answer.
    """
    granted, until_full = script(url(), TAKE)(keys=[f"bucket:{key}"], args=[interval, burst * interval, number])
    return bool(granted), until_full / 1e6


def give_back(key: str, *, interval: int) -> None:
    """One that was not needed. Raises redis.RedisError."""
    script(url(), GIVE_BACK)(keys=[f"bucket:{key}"], args=[interval])


def ping() -> None:
    """Raises redis.RedisError where it does not answer, or does not count: a replica, or one that is full."""
    connected(url()).set("ping", 1, px=1000)
