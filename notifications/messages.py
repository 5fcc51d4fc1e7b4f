"""Deliveries by mail and SMS: claim, send, settle."""

import time
from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings

from messaging.database_errors import is_retryable
from messaging.failpoints import failpoint
from notifications import attempts, mail, texts
from notifications.attempts import Claim
from notifications.models import Channel, Delivery
from notifications.notices import Notice
from notifications.outcomes import Failed, Result, defect
from notifications.sms.base import configured
from payments.reads import payment_at

log = structlog.get_logger(__name__)


def deliver(delivery_id: UUID) -> None:
    """Make one attempt at a delivery, if one is due."""
    claim = attempts.claim(delivery_id, now=attempts.reckoned_now())
    if claim is None:
        return
    failpoint("delivery.claimed")
    started = time.monotonic()
    try:
        result = send(claim)
    except Exception as error:
        if is_retryable(error):
            raise
        log.exception("message_not_sent", delivery=str(delivery_id))
        result = defect(error)
    failpoint("delivery.sent")
    attempts.settle_patiently(claim, result, latency=timedelta(seconds=time.monotonic() - started))


def send(claim: Claim) -> Result:
    """Put it into words and send it by its channel. No transaction is open."""
    delivery = claim.delivery
    notice = notice_of(delivery)
    if delivery.channel == Channel.EMAIL:
        return mail.send(notice, to=delivery.recipient) if settings.EMAIL_ON else Failed(detail="mail is switched off")
    backend = configured()
    if backend is None:
        return Failed(detail="SMS are switched off")
    return backend.send(to=delivery.recipient, text=texts.text_of(notice))


def notice_of(delivery: Delivery) -> Notice:
    """What the delivery tells of."""
    return Notice(
        event_id=delivery.event_id,
        type=delivery.event_type,
        occurred_at=delivery.occurred_at,
        mode=delivery.mode,
        audience=delivery.audience,
        language=delivery.language or delivery.merchant.language,
        merchant=delivery.merchant.name,
        reply_to=delivery.merchant.contact_email,
        data=data_of(delivery),
    )


def data_of(delivery: Delivery) -> dict[str, object]:
    """The payment as it was right after the event, or what else is told."""
    if delivery.data is not None:
        return dict(delivery.data)
    return payment_at(delivery.event_id)
