"""How an endpoint does: how many calls it may have at once, when its merchant is warned, when it is disabled."""

import uuid
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext_noop as _

from merchants.audit import SYSTEM
from notifications import endpoints
from notifications.merchant_mail import tell_merchant
from notifications.models import Delivery, WebhookEndpoint
from notifications.notices import OwnType
from notifications.outcomes import Delivered, Failed, Result
from payments.reads import timestamp

#: After so many failed attempts at one delivery its merchant is told: 35 minutes into an outage.
WARN_AFTER: Final = 4
#: So long without a success, and nobody is there any more: longer than the retries of one delivery take.
DISABLE_AFTER: Final = timedelta(hours=120)
#: `last_success_at` is for people: a write for each success would have all calls to an endpoint wait for one row.
RESOLUTION: Final = timedelta(minutes=1)


def room(locked: WebhookEndpoint, *, now: datetime) -> int:
    """How many calls may be under way to a locked endpoint: few to one that fails, none to a disabled one.

    What waits for a disabled one all the same was written by somebody who had seen it enabled.
    """
    if not locked.enabled:
        endpoints.cancel_waiting(locked, now=now)
        return 0
    return settings.WEBHOOKS_PER_ENDPOINT if locked.failing_since is None else 1


def note(delivery: Delivery, result: Result, *, now: datetime) -> None:
    """Take notice of what came of a call to the delivery's endpoint."""
    assert delivery.endpoint_id
    match result:
        case Delivered():
            note_success(delivery.endpoint_id, now=now)
        case Failed() if not result.ours:
            note_failure(endpoints.lock(delivery.endpoint_id), delivery, result, now=now)


def note_success(endpoint_id: UUID, *, now: datetime) -> None:
    """All is well, or well again."""
    news = Q(last_success_at=None) | Q(last_success_at__lte=now - RESOLUTION) | Q(failing_since__isnull=False)
    WebhookEndpoint.objects.filter(news, pk=endpoint_id).update(last_success_at=now, failing_since=None, warned_at=None)


def note_failure(locked: WebhookEndpoint, delivery: Delivery, failure: Failed, *, now: datetime) -> None:
    """Remember since when it fails; warn its merchant, once in an outage; disable it when it is gone."""
    if not locked.enabled or has_moved(locked, delivery):
        return
    if locked.failing_since is None:
        locked.failing_since = now
        locked.save(update_fields=["failing_since"])
    if failure.gone and locked.kind == WebhookEndpoint.Kind.REGISTERED:
        give_up(locked, reason=_("it answered 410 Gone"), now=now)
    elif now - locked.failing_since >= DISABLE_AFTER:
        give_up(locked, reason=_("120 hours without a success"), now=now)
    elif delivery.tries >= WARN_AFTER and locked.warned_at is None:
        locked.warned_at = now
        locked.save(update_fields=["warned_at"])
        tell(locked, OwnType.FAILING, reason=failure.detail, since=locked.failing_since, now=now)


def has_moved(locked: WebhookEndpoint, delivery: Delivery) -> bool:
    """Whether the endpoint has another URL by now than the one that was called: that one's faults are not its own."""
    return locked.kind == WebhookEndpoint.Kind.REGISTERED and delivery.recipient != locked.url


def give_up(locked: WebhookEndpoint, *, reason: str, now: datetime) -> None:
    """Disable it and tell its merchant."""
    endpoints.disable(locked, reason=reason, now=now)
    endpoints.record(locked, "disabled", SYSTEM, reason, before={"enabled": True}, after={"enabled": False})
    tell(locked, OwnType.DISABLED, reason=reason, since=locked.failing_since or now, now=now)


def tell(locked: WebhookEndpoint, kind: OwnType, *, reason: str, since: datetime, now: datetime) -> None:
    """Write to the merchant about an endpoint. The outage's beginning makes it one mail for one outage."""
    tell_merchant(
        merchant_id=locked.merchant_id,
        mode=locked.mode,
        kind=kind,
        event_id=uuid.uuid5(locked.pk, f"{kind}:{timestamp(since)}"),
        data={"endpoint": str(locked.pk), "url": locked.url, "reason": reason, "since": timestamp(since)},
        now=now,
    )
