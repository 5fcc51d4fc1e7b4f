"""Deliver again: one delivery, or all of an endpoint since a time. What was told before keeps its event id."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from merchants import audit
from merchants.audit import SYSTEM, Who
from messaging import outbox
from notifications import endpoints
from notifications.endpoints import lock_enabled, redirect
from notifications.errors import DeliveryUnderWay
from notifications.models import Delivery, WebhookEndpoint
from notifications.routes import topic_of

#: What ended without being delivered.
UNDELIVERED: Final = (Delivery.State.FAILED, Delivery.State.CANCELED)


@transaction.atomic(durable=True)
def redeliver(*, delivery: Delivery, now: datetime, who: Who = SYSTEM, reason: str = "") -> Delivery:
    """Begin one delivery anew, with all its attempts, whatever became of it.

    Raises:
        EndpointDisabled, EndpointDeleted, DeliveryUnderWay: see there; nothing was done.
    """
    if delivery.endpoint_id:
        redirect(lock_enabled(delivery.endpoint_id), ended().filter(pk=delivery.pk))
    before = {"state": delivery.state, "tries": delivery.tries}
    if not begin_anew(delivery, now=now):
        raise DeliveryUnderWay
    delivery.refresh_from_db()
    audit.record(
        who,
        "delivery.redelivered",
        subject=f"delivery:{delivery.pk}",
        merchant=delivery.merchant,
        reason=reason,
        before=before,
        after={"state": delivery.state, "tries": delivery.tries},
    )
    return delivery


def begin_anew(delivery: Delivery, *, now: datetime) -> bool:
    """Make an ended delivery pending and stage it, in the caller's transaction; False if it has not ended."""
    if not ended().filter(pk=delivery.pk).update(**as_new(now=now)):
        return False
    outbox.stage(topic_of(delivery.channel), {"ids": [str(delivery.pk)]}, request_id=delivery.request_id)
    return True


@transaction.atomic(durable=True)
def redeliver_since(
    *,
    endpoint: WebhookEndpoint,
    since: datetime,
    everything: bool,
    now: datetime,
    who: Who = SYSTEM,
    reason: str = "",
) -> int:
    """Begin an endpoint's deliveries since a time anew: those that ended undelivered, or with `everything` all that
    ended. They go out in their order, a few at a time. Returns how many there are.

    Raises:
        EndpointDisabled, EndpointDeleted: see there; nothing was done.
    """
    locked = lock_enabled(endpoint.pk)
    chosen = ended().filter(endpoint=endpoint, created_at__gte=since)
    if not everything:
        chosen = chosen.filter(state__in=UNDELIVERED)
    redirect(locked, chosen)
    first = chosen.order_by("id").first()
    count = chosen.update(**as_new(now=now))
    if first is not None:
        # One message has the endpoint looked after: whoever finishes a call to it takes what waits next.
        outbox.stage(topic_of(first.channel), {"ids": [str(first.pk)]}, request_id=first.request_id)
    chosen_were = {"since": since, "everything": everything, "deliveries": count}
    endpoints.record(locked, "redelivered", who, reason, after=chosen_were)
    return count


def ended() -> QuerySet[Delivery]:
    """What is under way no more."""
    return Delivery.objects.exclude(state=Delivery.State.PENDING)


def as_new(*, now: datetime) -> dict[str, Any]:
    """What a delivery has that is about to be tried for the first time."""
    return {
        "state": Delivery.State.PENDING,
        "tries": 0,
        "next_attempt_at": now,
        "revive_at": now + timedelta(seconds=settings.REVIVE_AFTER),
        "finished_at": None,
        "note": "",
    }
