"""Callers of the API about who is told, and the endpoints and deliveries that they ask for."""

from uuid import uuid4

from django.test import Client
from django.utils import timezone

from merchants import api_keys
from merchants.models import Merchant, Mode
from notifications import endpoints
from notifications.models import Channel, Delivery, WebhookEndpoint
from notifications.outcomes import Result
from tests.deliveries import HOOK, again, attempt, delivery_to


def client_for(merchant: Merchant, mode: Mode = Mode.TEST, **limits: object) -> Client:
    """A client with a key of its own."""
    key = f"sk_{mode}_{uuid4()}"
    api_keys.register_key(key, merchant=merchant, mode=mode, name="tests", **limits)
    return Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)


def endpoint(merchant: Merchant, url: str = HOOK, **fields: object) -> WebhookEndpoint:
    """A new endpoint in test mode."""
    return endpoints.create(merchant=merchant, mode=Mode.TEST, url=url, **fields)[0]


def webhook(of: WebhookEndpoint, **fields: object) -> Delivery:
    """An event of a payment on its way to an endpoint."""
    return about_a_payment(**{"endpoint": of, "recipient": of.url, **fields})


def message(merchant: Merchant, **fields: object) -> Delivery:
    """The same by mail, unless said otherwise."""
    return about_a_payment(
        **{"merchant": merchant, "channel": Channel.EMAIL, "recipient": "max.payer@example.com", **fields}
    )


def about_a_payment(**fields: object) -> Delivery:
    """A delivery that is due; what the database sets is read."""
    given = {"event_type": "payment.succeeded", "payment_id": uuid4(), "data": None, **fields}
    return again(delivery_to(**given))


def settle(delivery: Delivery, result: Result) -> Delivery:
    """Make one attempt with this result as soon as one is due. An endpoint has nothing else waiting."""
    assert attempt(delivery, result, now=max(timezone.now(), delivery.next_attempt_at))
    return again(delivery)
