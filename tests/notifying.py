"""Endpoints and deliveries for tests, as their rooms write them."""

from datetime import timedelta
from uuid import UUID, uuid4

from django.test import Client
from django.utils import timezone

from merchants import api_keys
from merchants.models import Merchant, Mode
from notifications import attempts, endpoints
from notifications.models import Channel, Delivery, WebhookEndpoint
from notifications.outcomes import Delivered, Failed

URL = "https://shop.example.com/webhooks"


def client_for(merchant: Merchant, mode: Mode = Mode.TEST, **limits: object) -> Client:
    """A client with a key of its own."""
    key = f"sk_{mode}_{uuid4()}"
    api_keys.register_key(key, merchant=merchant, mode=mode, name="tests", **limits)
    return Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)


def endpoint(merchant: Merchant, mode: Mode = Mode.TEST, url: str = URL, **fields: object) -> WebhookEndpoint:
    """A new endpoint."""
    return endpoints.create(merchant=merchant, mode=mode, url=url, **fields)[0]


def webhook(of: WebhookEndpoint, **fields: object) -> Delivery:
    """A delivery to an endpoint, pending and due."""
    return message(of.merchant, channel=Channel.WEBHOOK, endpoint=of, mode=of.mode, recipient=of.url, **fields)


def message(merchant: Merchant, **fields: object) -> Delivery:
    """A delivery, pending and due; by mail, unless said otherwise."""
    now = timezone.now()
    given = {
        "mode": Mode.TEST,
        "event_id": uuid4(),
        "event_type": "payment.succeeded",
        "payment_id": uuid4(),
        "channel": Channel.EMAIL,
        "recipient": "max.payer@example.com",
        "occurred_at": now,
        "next_attempt_at": now,
        "revive_at": now + timedelta(minutes=1),
        **fields,
    }
    made = Delivery.objects.create(merchant=merchant, **given)
    made.refresh_from_db()
    return made


def settle(delivery: Delivery, result: Delivered | Failed, *, after: timedelta = timedelta(0)) -> Delivery:
    """Make one attempt with this result, at a time when it is due."""
    now = max(timezone.now(), delivery.next_attempt_at) + after
    claim = attempts.claim(delivery.pk, now=now) or attempts.claim_for_endpoint(
        UUID(str(delivery.endpoint_id)), now=now
    )
    assert claim is not None
    assert claim.delivery.pk == delivery.pk
    attempts.settle(claim, result, latency=timedelta(milliseconds=12), now=now)
    delivery.refresh_from_db()
    return delivery
