"""One attempt at a delivery, around its call: claim before, settle after. Both are short transactions.

As with payments, a lease keeps others away while one is sending, a fence tells whose failure counts, and the message
that brought us here is only a doorbell: what is due, the row says. A success counts whoever reports it, however late.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import close_old_connections, transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from messaging import dead_letters, outbox
from messaging.database_errors import retry_while_unavailable
from notifications import endpoint_health, endpoints
from notifications.models import Delivery, DeliveryAttempt, WebhookEndpoint
from notifications.outcomes import Delivered, Failed, Result
from notifications.routes import topic_of
from notifications.schedule import delays, next_delay

log = structlog.get_logger(__name__)

#: How long a worker may be at one delivery; then another may take it. Above the 15 s of a webhook and the few timeouts
#: of 10 s that a conversation with a mail server has.
LEASE: Final = timedelta(minutes=2)
#: Waits (s) for a database that is away, in all a minute and a half: within the lease.
OUTAGE_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, *[10.0] * 8)
#: What the clocks of two machines may differ by. A message that came before its time would find nothing due, and the
#: rescue would be the next to look, a minute later.
CLOCKS_DIFFER: Final = timedelta(seconds=0.5)
#: Nearer attempts are staged and so are on time; farther ones are left to the rescue.
OUTBOX_HORIZON: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to send a delivery; `number` is its fence."""

    delivery: Delivery
    number: int


#: How many calls to an endpoint a process has room for.
Share = Callable[[WebhookEndpoint], float]


def unlimited(_endpoint: WebhookEndpoint) -> float:
    """The process has room for all that the endpoint has room for."""
    return math.inf


def may_be_claimed(*, now: datetime) -> Q:
    """Whether a delivery is due, and in nobody's hands."""
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=now)
    return Q(state=Delivery.State.PENDING, next_attempt_at__lte=now) & free


def reckoned_now() -> datetime:
    """The time by which a message that has come was due."""
    return timezone.now() + CLOCKS_DIFFER


@transaction.atomic(durable=True)
def claim(delivery_id: UUID, *, now: datetime) -> Claim | None:
    """Take a message in hand, if it is due and nobody else has it."""
    due = Delivery.objects.select_for_update(no_key=True, skip_locked=True)
    delivery = due.filter(may_be_claimed(now=now), pk=delivery_id, endpoint=None).first()
    return take_in_hand(delivery, now=now) if delivery else None


@transaction.atomic(durable=True)
def claim_for_endpoint(endpoint_id: UUID, *, now: datetime, share: Share = unlimited) -> Claim | None:
    """Take in hand what has waited longest for an endpoint, unless enough calls to it are under way: as many as it has
    room for, or as the caller has for it.

    The endpoint's lock makes the count exact among all workers.
    """
    endpoint = endpoints.lock(endpoint_id)
    room = min(endpoint_health.room(endpoint, now=now), share(endpoint))
    under_way = Delivery.objects.filter(
        endpoint=OuterRef("endpoint"), state=Delivery.State.PENDING, lease_expires_at__gt=now
    )
    busy = Subquery(under_way.order_by().values("endpoint").annotate(count=Count("*")).values("count"))
    due = due_for(endpoint_id, now=now).annotate(busy=Coalesce(busy, 0))
    delivery = due.order_by("next_attempt_at", "id").first() if room else None
    if delivery is None or delivery.busy >= room:
        return None
    delivery.endpoint = endpoint
    return take_in_hand(delivery, now=now)


def due_for(endpoint_id: UUID, *, now: datetime) -> QuerySet[Delivery]:
    """What waits for an endpoint and may be sent. Asked without a lock it tells only whether a claim is worth it."""
    return Delivery.objects.filter(may_be_claimed(now=now), endpoint=endpoint_id)


def take_in_hand(delivery: Delivery, *, now: datetime) -> Claim | None:
    """Lease it, unless somebody has ended it meanwhile."""
    if delivery.tries > len(delays(delivery.channel)):
        give_up(delivery, Failed(detail="whoever sent it died each time, or lost the database"), now=now)
        return None
    delivery.fence += 1
    leased = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.PENDING).update(
        fence=delivery.fence, tries=F("tries") + 1, lease_expires_at=now + LEASE, revive_at=now + LEASE
    )
    delivery.tries += 1
    return Claim(delivery=delivery, number=delivery.fence) if leased else None


def settle_patiently(claim: Claim, result: Result, *, latency: timedelta) -> None:
    """`settle`, waiting for a database that is away as long as the lease lasts: what was sent is not sent again."""
    tell(claim, result, latency=latency)
    close_old_connections()
    retry_while_unavailable(
        lambda: settle(claim, result, latency=latency, now=timezone.now()),
        pauses=OUTAGE_PAUSES,
        on_retry=partial(log.warning, "delivery_waits_for_the_database", delivery=str(claim.delivery.pk)),
        sleep=time.sleep,
    )


def tell(claim: Claim, result: Result, *, latency: timedelta) -> None:
    """The attempt in the log, for whoever wonders there what a mail server or a receiver does."""
    delivery = claim.delivery
    log.info(
        "delivery_answered",
        delivery=str(delivery.pk),
        channel=delivery.channel,
        endpoint=str(delivery.endpoint_id) if delivery.endpoint_id else None,
        answer=type(result).__name__,
        status_code=result.status_code,
        detail=getattr(result, "detail", ""),
        milliseconds=round(latency / timedelta(milliseconds=1)),
        request_id=delivery.request_id,
    )


@transaction.atomic(durable=True)
def settle(claim: Claim, result: Result, *, latency: timedelta, now: datetime) -> None:
    """Record what came of an attempt, and what follows. Endpoint before delivery, as everybody locks them."""
    delivery = claim.delivery
    if delivery.endpoint_id:
        endpoint_health.note(delivery, result, now=now)
    record(claim, result, latency=latency)
    match result:
        case Delivered():
            succeed(delivery, result, now=now)
        case Failed():
            fail(claim, result, now=now)


def record(claim: Claim, result: Result, *, latency: timedelta) -> None:
    """The attempt as people will see it."""
    attempt = DeliveryAttempt(
        delivery_id=claim.delivery.pk,
        number=claim.number,
        outcome="delivered" if isinstance(result, Delivered) else "failed",
        status_code=result.status_code,
        detail=getattr(result, "detail", "")[:500],
        excerpt=result.excerpt,
        latency_ms=min(int(latency / timedelta(milliseconds=1)), 2**31 - 1),
    )
    DeliveryAttempt.objects.bulk_create([attempt], ignore_conflicts=True)


def succeed(delivery: Delivery, result: Delivered, *, now: datetime) -> None:
    """It has been taken, and that is so whatever was thought of it meanwhile."""
    undelivered = Delivery.objects.filter(pk=delivery.pk).exclude(state=Delivery.State.DELIVERED)
    undelivered.update(**ended(Delivery.State.DELIVERED, now=now), reference=result.reference[:255], note="")


def fail(claim: Claim, failure: Failed, *, now: datetime) -> None:
    """Try again later, or give it up; if nobody else has taken it in hand since."""
    delivery = claim.delivery
    ours = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.PENDING, fence=claim.number)
    if failure.gone and ours.exclude(recipient=delivery.recipient).exists():
        failure = replace(failure, gone=False, final=False)  # so said the URL that its endpoint had before
    delay = next_delay(delivery.channel, delivery.tries, failure)
    if failure.gone:
        ours.update(**ended(Delivery.State.CANCELED, now=now), note=failure.detail[:500])
    elif delay is not None:
        try_later(ours, delivery, at=now + delay, note=failure.detail, now=now)
    elif ours.exists():
        give_up(delivery, failure, now=now)


def try_later(ours: Any, delivery: Delivery, *, at: datetime, note: str, now: datetime) -> None:
    """Let it wait for its next attempt."""
    near = at - now <= OUTBOX_HORIZON
    backstop = timedelta(seconds=settings.REVIVE_AFTER if near else 0)
    waiting = {"lease_expires_at": None, "next_attempt_at": at, "revive_at": at + backstop, "note": note[:500]}
    if ours.update(**waiting) and near:
        message = {"ids": [str(delivery.pk)]}
        outbox.stage(topic_of(delivery.channel), message, request_id=delivery.request_id, available_at=at)


def give_up(delivery: Delivery, failure: Failed, *, now: datetime) -> None:
    """End it, and keep its message for a replay."""
    pending = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.PENDING)
    if not pending.update(**ended(Delivery.State.FAILED, now=now), note=failure.detail[:500]):
        return
    queue, actor = settings.MESSAGE_ROUTES[topic_of(delivery.channel)]
    dead_letters.record(
        queue=queue,
        actor=actor,
        payload={"ids": [str(delivery.pk)]},
        cause="delivery_refused" if failure.final else "delivery_exhausted",
        detail=failure.detail,
        attempts=delivery.tries,
        subject=f"delivery:{delivery.pk}",
        request_id=delivery.request_id,
        first_failed_at=delivery.created_at,
        now=now,
    )


def ended(state: Delivery.State, *, now: datetime) -> dict[str, Any]:
    """What a delivery has that is over."""
    nothing = dict.fromkeys(("next_attempt_at", "lease_expires_at", "revive_at"))
    return {"state": state, "finished_at": now, **nothing}


def endpoints_behind(delivery_ids: Sequence[UUID]) -> list[UUID]:
    """The endpoints that these deliveries are for."""
    pending = Delivery.objects.filter(pk__in=delivery_ids, state=Delivery.State.PENDING)
    return list(pending.order_by().values_list("endpoint", flat=True).distinct())
