"""Health: is the process alive, may it take traffic, and how is the whole?

The web process asks only PostgreSQL; how RabbitMQ does, the relay's heartbeat tells.
"""

from typing import Any, Final

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from console.bearer import may_look
from merchants import redis_buckets
from merchants.fuse import redis_failures
from messaging import heartbeats
from payments import breaker
from payments.unmatched_charge import count_open

#: Processes that not everybody runs -> the command.
SOMETIMES: Final = {"intake": "intake", "notifier": "worker --queues notifications webhooks"}
HEALTHY: Final = {"status": "healthy"}
#: Share of PostgreSQL's notification queue. It is nearly empty unless a listening session idles in a transaction.
NOTIFICATION_QUEUE_LIMIT: Final = 0.5


@require_safe
@never_cache
def livez(_request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers. Restart it when it does not."""
    return JsonResponse(HEALTHY)


@require_safe
@never_cache
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when payments can be accepted: that takes PostgreSQL and nothing else."""
    part = database()
    return JsonResponse(part, status=200 if part == HEALTHY else 503)


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """Every part: `healthy`; `degraded` while payments are accepted and wait; `unhealthy` when they are refused.

    In production the details, with the names of gateways, are for who shows METRICS_TOKEN.
    """
    parts = {"database": database()}
    if parts["database"] == HEALTHY:
        parts["notification_queue"] = notification_queue()
        relay = process("relay")
        parts["relay"] = relay
        parts["subscribers"] = process("subscribers", command="relay")
        if settings.ENV.rabbitmq_url:
            parts["rabbitmq"] = rabbitmq()
            parts["worker"] = process("worker")
            parts["collector"] = process("collector", command="relay")
            for name, command in SOMETIMES.items():
                if heartbeats.is_known(name):
                    parts[name] = process(name, command=command)
        else:
            parts["worker"] = relay  # the relay process hosts the workers
        parts |= gateways() | unmatched_charges()
    if redis_buckets.url():
        parts["limits"] = limits()
    status = "healthy" if all(part == HEALTHY for part in parts.values()) else "degraded"
    if parts["database"] != HEALTHY:
        status = "unhealthy"
    shown = parts if may_look(request) else without_details(parts)
    return JsonResponse({"status": status, "parts": shown}, status=503 if status == "unhealthy" else 200)


def without_details(parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The states alone; which gateways there are is nobody's business."""
    return {name.partition(" ")[0]: {"status": part["status"]} for name, part in parts.items()}


def database() -> dict[str, Any]:
    """Whether PostgreSQL answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return {"status": "unhealthy", "detail": "PostgreSQL does not answer."}
    return HEALTHY


def notification_queue() -> dict[str, Any]:
    """Return whether PostgreSQL's notification queue has room; while it is full the relay polls for new payments."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notification_queue_usage()")
        usage: float = cursor.fetchone()[0]
    if usage < NOTIFICATION_QUEUE_LIMIT:
        return HEALTHY
    detail = (
        f"PostgreSQL's notification queue is {usage:.0%} full: end the session that listens and idles in a transaction."
    )
    return {"status": "degraded", "detail": detail}


def process(name: str, *, command: str = "") -> dict[str, Any]:
    """Whether an instance of a process has shown itself lately; `command` runs it, if not the one of its name."""
    beat = heartbeats.latest(name)
    if beat is None:
        mend = f"start `manage.py {command or name}`"
        return {"status": "unhealthy", "detail": f"No {name} has shown itself lately; {mend}."}
    return {"status": "degraded", "detail": beat.note} if beat.note else HEALTHY


def limits() -> dict[str, Any]:
    """Whether Redis counts for the limits."""
    try:
        redis_buckets.ping()
    except redis_failures():
        return {"status": "degraded", "detail": "Redis does not answer; most limits let everything through."}
    return HEALTHY


def unmatched_charges() -> dict[str, dict[str, Any]]:
    """Charges that no payment accounts for, while there are any: money moved, and staff must decide."""
    count = count_open()
    says = f"{count} wait for a decision; see the console's unmatched charges."
    return {"unmatched_charges": {"status": "degraded", "detail": says}} if count else {}


def gateways() -> dict[str, dict[str, Any]]:
    """The gateways that may not be called at the moment; payments wait for them."""
    held_up = breaker.troubles(now=timezone.now())
    return {f"gateway {name}": {"status": "degraded", "detail": state} for name, state in held_up.items()}


def rabbitmq() -> dict[str, Any]:
    """What the relay says of RabbitMQ."""
    beat = heartbeats.latest("relay")
    if beat is None:
        return {"status": "unknown", "detail": "No relay is there to tell."}
    return {"status": "unhealthy", "detail": beat.note} if beat.note.startswith("RabbitMQ") else HEALTHY
