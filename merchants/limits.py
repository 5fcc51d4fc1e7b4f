"""How often somebody may ask: requests are counted by class, in windows of fixed length, by one shared counter.

django-ratelimit counts; the classes and their figures are `settings.LIMITS`. Each window begins at another moment for
each caller, so that not all of them begin anew at once.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import Error
from django.http import HttpRequest
from django_ratelimit.core import get_usage
from rest_framework.exceptions import Throttled

from merchants import redis_buckets
from merchants.buckets import Ticket
from merchants.fuse import WITHOUT_COUNTER, redis_fuse
from merchants.local_buckets import local_buckets

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
RATE: Final = re.compile(r"([0-9]+)/([smhd])")
#: What stays limited while Redis does not answer, by each process alone: passwords must not be guessed meanwhile.
KEPT_LOCALLY: Final = frozenset({"logins", "logins_by_name"})
#: So many times what one address may try, one name may be tried from all addresses together: it takes that many of
#: them at work all the time to keep somebody out, and one alone never can.
ADDRESSES_PER_NAME: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How far a limit is used up: `quota` in `window` seconds, `remaining` of it for the next `reset` seconds."""

    name: str
    quota: int
    window: int
    remaining: int
    reset: int
    exceeded: bool

    @property
    def policy(self) -> str:
        """An item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 3)."""
        return f'"{self.name}";q={self.quota};w={self.window}'

    @property
    def state(self) -> str:
        """An item of `RateLimit` (the same draft, section 4)."""
        return f'"{self.name}";r={self.remaining};t={self.reset}'


class TooManyRequests(Throttled):
    """More than a limit lets through."""

    def __init__(self, usage: Usage) -> None:
        detail = (
            f"The limit `{usage.name}` lets {usage.quota} requests through in {usage.window} seconds, and this is one "
            f"more. Come again in {usage.reset} seconds."
        )
        super(Throttled, self).__init__(detail)
        self.wait = usage.reset


def count(request: HttpRequest, name: str, who: str) -> Usage | None:
    """Count one request against a limit, and tell how far it is used up; None where nobody can tell."""
    quota, window = figures(name)
    usage = count_shared(request, name, who, (quota, window))
    if usage is None and name in KEPT_LOCALLY:
        usage = count_locally(name, who, quota=quota, window=window)
    if usage is not None:
        note(request, usage)
    return usage


def figures(name: str) -> tuple[int, int]:
    """How many requests in how many seconds."""
    found = RATE.fullmatch(settings.LIMITS["logins" if name == "logins_by_name" else name])
    assert found is not None, "the environment was checked"
    quota = int(found[1])
    return quota * ADDRESSES_PER_NAME if name == "logins_by_name" else quota, SECONDS[found[2]]


def count_shared(request: HttpRequest, name: str, who: str, rate: tuple[int, int]) -> Usage | None:
    """By the counter of all processes."""
    if not redis_buckets.url():
        return ask(request, name, who, rate)
    usage = redis_fuse.ask(lambda: ask(request, name, who, rate))
    if usage is None:
        WITHOUT_COUNTER.labels(name).inc()
    return usage


def ask(request: HttpRequest, name: str, who: str, rate: tuple[int, int]) -> Usage | None:
    """Count by django-ratelimit, which keeps of `who` only a hash."""
    found: dict[str, Any] | None = get_usage(
        request, group=name, key=lambda _group, _request: who, rate=rate, increment=True
    )
    if found is None:
        return None
    # It tells the window's last second, which may have passed while we waited.
    reset = max(1, found["time_left"] + 1)
    return Usage(
        name=name,
        quota=found["limit"],
        window=rate[1],
        remaining=max(0, found["limit"] - found["count"]),
        reset=reset,
        exceeded=found["should_limit"],
    )


def count_locally(name: str, who: str, *, quota: int, window: int) -> Usage:
    """By this process alone, with a token bucket of the same size."""
    granted, until_full = local_buckets.take(f"{name}:{who}", burst=quota, interval=window / quota)
    used = math.ceil(until_full * quota / window - 1e-6)
    reset = max(1, math.ceil(until_full - (quota - 1) * window / quota))
    return Usage(
        name=name, quota=quota, window=window, remaining=max(0, quota - used), reset=reset, exceeded=not granted
    )


def usage_of(ticket: Ticket) -> Usage:
    """What the token bucket of payments said, in the same words."""
    return Usage(
        name="creation",
        quota=ticket.burst,
        window=ticket.fills_in,
        remaining=ticket.remaining,
        reset=max(1, math.ceil(ticket.until_full)) if ticket.granted else ticket.retry_after,
        exceeded=not ticket.granted,
    )


def note(request: HttpRequest, usage: Usage) -> None:
    """Remember what was counted, for the headers of the answer."""
    plain: Any = request
    plain.limits_counted = [*counted(request), usage]


def counted(request: HttpRequest) -> list[Usage]:
    """What was counted of a request."""
    return getattr(request, "limits_counted", [])


def count_unless_away(request: HttpRequest, name: str, who: str) -> Usage | None:
    """As `count`, where an answer is ready: a database that is away must not make it another one."""
    try:
        return count(request, name, who)
    except Error:
        return None
