"""Writing to the merchant itself: to its contact address, or to its administrators."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings

from merchants.models import Membership, Merchant, Role
from messaging import outbox
from notifications.models import Audience, Channel, Delivery
from notifications.notices import OwnType
from notifications.routes import topic_of

log = structlog.get_logger(__name__)


def tell_merchant(
    *, merchant_id: UUID, mode: str, kind: OwnType, event_id: UUID, data: Mapping[str, Any], now: datetime
) -> None:
    """Stage a mail to the merchant, in the caller's transaction; the same event again changes nothing."""
    merchant = Merchant.objects.get(pk=merchant_id)
    addresses = addresses_of(merchant) if settings.EMAIL_ON else []
    if not addresses:
        log.warning("merchant_cannot_be_told", merchant=merchant.slug, kind=kind)
    deliveries = [
        Delivery(
            merchant=merchant,
            mode=mode,
            event_id=event_id,
            event_type=kind,
            channel=Channel.EMAIL,
            audience=Audience.MERCHANT,
            recipient=address,
            language=merchant.language,
            data=dict(data),
            occurred_at=now,
            next_attempt_at=now,
            revive_at=now + timedelta(seconds=settings.REVIVE_AFTER),
        )
        for address in addresses
    ]
    Delivery.objects.bulk_create(deliveries, ignore_conflicts=True)
    outbox.stage_many(topic_of(Channel.EMAIL), [({"ids": [str(delivery.pk)]}, "") for delivery in deliveries])


def addresses_of(merchant: Merchant) -> list[str]:
    """Where the merchant reads its mail."""
    if merchant.contact_email:
        return [merchant.contact_email]
    admins = Membership.objects.filter(merchant=merchant, role=Role.ADMIN, user__is_active=True).exclude(user__email="")
    return sorted(set(admins.values_list("user__email", flat=True)))
