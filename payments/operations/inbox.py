"""What gateways tell us by themselves: stored before it is handled, and handled in any order, any number of times.

A webhook can come late, twice, out of order, or before the answer to the call it speaks of. An approval is
proof by whatever way it comes; anything else only makes us ask the gateway earlier.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from messaging import outbox
from payments.errors import UnknownGateway, WebhookNotAuthentic
from payments.gateways import registry
from payments.gateways.base import Approved, News, NotAuthentic
from payments.models import GatewayEvent, Payment
from payments.operations import outcomes
from payments.operations.claims import lock_payment
from payments.operations.retry import bring_forward
from payments.operations.unmatched_charges import ChargeFacts, payment_with_charge, record_unless_matched
from payments.states import Status
from payments.unmatched_charge import Source

log = structlog.get_logger(__name__)


def receive_gateway_event(*, gateway: str, headers: Mapping[str, str], body: bytes, request_id: str) -> bool:
    """Store what a gateway tells, and have it handled; False if it told that before.

    Raises:
        UnknownGateway: nobody of that name may tell us anything.
        WebhookNotAuthentic: the gateway did not sign it; nothing was stored.
    """
    if not settings.GATEWAYS.get(gateway, {}).get("OPTIONS", {}).get("webhook_secrets"):
        raise UnknownGateway(gateway)
    try:
        event = registry.get(gateway).adapter.verify_webhook(headers=headers, body=body)
    except NotAuthentic:
        log.warning("gateway_webhook_not_authentic", gateway=gateway)
        raise WebhookNotAuthentic from None
    revive_at = Now() + timedelta(seconds=settings.REVIVE_AFTER)
    with transaction.atomic(durable=True):
        row, is_new = GatewayEvent.objects.get_or_create(
            gateway=gateway,
            event_id=event.id,
            defaults={"type": event.type, "body": event.body, "revive_at": revive_at},
        )
        if is_new:
            outbox.stage("gateway_event.received", {"ids": [row.pk]}, request_id=request_id)
    return is_new


@transaction.atomic(durable=True)
def handle_gateway_event(*, event_id: int) -> None:
    """Take up one stored event, unless that is done or under way. `event_id` is ours."""
    event = GatewayEvent.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=event_id).first()
    if event is None or event.handled_at is not None:
        return
    news = registry.get(event.gateway).adapter.read_event(event.body)
    event.result = take_up_news(event, news) if news is not None else "says nothing definite"
    event.handled_at, event.revive_at = Now(), None
    event.save(update_fields=["result", "payment", "handled_at", "revive_at"])
    log.info("gateway_event_handled", gateway=event.gateway, type=event.type, result=event.result)


def take_up_news(event: GatewayEvent, news: News) -> str:
    """Let the payment follow what was told of it; returns what that came to, in a few words."""
    found = lock_payment(news.payment_id)
    if found is None or found.payment.gateway != event.gateway:
        return take_up_unknown(event, news)
    payment, now, _ = found
    event.payment = payment
    if (news.amount, news.currency) != (payment.amount, payment.currency):
        log.error("gateway_event_contradicts", payment_id=str(payment.pk), event_id=event.event_id)
        record_unmatched(event, news, payment)
        return "contradicts the payment"
    if payment.amount_captured and payment.gateway_reference != news.answer.reference:
        record_unmatched(event, news, payment)  # a second charge, which staff may refund
    return follow_news(payment, news, now=now)


def take_up_unknown(event: GatewayEvent, news: News) -> str:
    """Find the payment that has the charge under another id, or record the charge for review.

    The gateway names the payment of the first request under a key. A database that forgot that payment has another one
    for the client's retry, with the same charge.
    """
    holder = payment_with_charge(event.gateway, news.answer.reference)
    if holder is not None and (holder.amount, holder.currency) == (news.amount, news.currency):
        event.payment = holder
        return "known already"
    record_unmatched(event, news, None)
    return "no such payment"


def record_unmatched(event: GatewayEvent, news: News, payment: Payment | None) -> None:
    """Record an approved charge for review; one that was declined moved no money."""
    if not isinstance(news.answer, Approved):
        return
    facts = ChargeFacts(
        gateway=event.gateway,
        reference=news.answer.reference,
        amount=news.amount,
        currency=news.currency,
        gateway_key=news.key,
        gateway_payment_id=str(news.payment_id),
        merchant_slug=news.merchant,
        order_id=news.order_id,
        charged_at=news.charged_at,
    )
    record_unless_matched(facts, payment, source=Source.WEBHOOK)


def follow_news(payment: Payment, news: News, *, now: datetime) -> str:
    """An approval settles; a decline is what a look-up may find out, now."""
    if isinstance(news.answer, Approved):
        return "approval taken up" if outcomes.learn(payment, news.answer, now=now) else "known already"
    if payment.status == Status.UNKNOWN and bring_forward(payment, now=now):
        return "look-up brought forward"
    return "known already"
