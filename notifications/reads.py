"""Endpoints, deliveries and contacts, as the API shows them."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from merchants.models import Merchant
from notifications.masking import mask
from notifications.models import Audience, Channel, Contact, Delivery, DeliveryAttempt, WebhookEndpoint
from notifications.notices import FOR_MERCHANTS
from notifications.preferences import Wish, wishes_of
from payments.reads import timestamp

API = "/api/v1"


def endpoint_path(endpoint: WebhookEndpoint) -> str:
    """Where the API has an endpoint."""
    return f"{API}/webhook-endpoints/{endpoint.pk}"


def delivery_path(delivery: Delivery) -> str:
    """Where the API has a delivery."""
    collection = "webhook-deliveries" if delivery.channel == Channel.WEBHOOK else "notifications"
    return f"{API}/{collection}/{delivery.pk}"


def contact_path(contact: Contact) -> str:
    """Where the API has a contact. A slash at the end of its id would be taken for that of the address."""
    return f"{API}/contacts/{quote(contact.user_id, safe='')}{'/' if contact.user_id.endswith('/') else ''}"


def represent_endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """An endpoint; its secret is not for showing."""
    return {
        "id": str(endpoint.pk),
        "object": "webhook_endpoint",
        "mode": endpoint.mode,
        "kind": endpoint.kind,
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": endpoint.event_types,
        "enabled": endpoint.enabled,
        "disabled_at": moment(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": moment(endpoint.failing_since),
        "last_success_at": moment(endpoint.last_success_at),
        "previous_secret_until": moment(endpoint.previous_secret_until),
        "created_at": timestamp(endpoint.created_at),
        "links": {"self": endpoint_path(endpoint)},
    }


def represent_delivery(delivery: Delivery) -> dict[str, Any]:
    """A delivery, with a recipient that can be recognised and no more."""
    return {
        "id": str(delivery.pk),
        "object": "delivery",
        "mode": delivery.mode,
        "event_id": str(delivery.event_id),
        "event_type": delivery.event_type,
        "payment_id": str(delivery.payment_id) if delivery.payment_id else None,
        "channel": delivery.channel,
        "audience": delivery.audience,
        "recipient": mask(delivery.channel, delivery.recipient),
        "endpoint_id": str(delivery.endpoint_id) if delivery.endpoint_id else None,
        "state": delivery.state,
        "tries": delivery.tries,
        "next_attempt_at": moment(delivery.next_attempt_at),
        "note": delivery.note or None,
        "created_at": timestamp(delivery.created_at),
        "finished_at": moment(delivery.finished_at),
        "links": {"self": delivery_path(delivery)},
    }


def represent_whole_delivery(delivery: Delivery) -> dict[str, Any]:
    """A delivery with its attempts, the first one first."""
    attempts = delivery.attempts.order_by("number")
    return {**represent_delivery(delivery), "attempts": [represent_attempt(attempt) for attempt in attempts]}


def represent_attempt(attempt: DeliveryAttempt) -> dict[str, Any]:
    """One try, and what came back."""
    return {
        "number": attempt.number,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "detail": attempt.detail or None,
        "excerpt": attempt.excerpt or None,
        "latency_ms": attempt.latency_ms,
        "finished_at": timestamp(attempt.finished_at),
    }


def represent_contact(contact: Contact) -> dict[str, Any]:
    """How a payer is reached."""
    return {
        "object": "contact",
        "mode": contact.mode,
        "user_id": contact.user_id,
        "email": contact.email or None,
        "phone": contact.phone or None,
        "language": contact.language or None,
        "updated_at": timestamp(contact.updated_at),
        "links": {"self": contact_path(contact)},
    }


def represent_preferences(merchant: Merchant) -> dict[str, Any]:
    """All that a merchant has decided, or the defaults where it has not."""
    wishes = wishes_of([merchant.pk])[merchant.pk]
    return {
        **{
            channel.value: {
                "payer": {"event_types": types_of(wishes[channel, Audience.PAYER])},
                "merchant": {
                    "event_types": types_of(wishes[channel, Audience.MERCHANT]),
                    "addresses": list(wishes[channel, Audience.MERCHANT].addresses),
                },
            }
            for channel in (Channel.EMAIL, Channel.SMS)
        },
        "language": merchant.language,
        "contact_email": merchant.contact_email or None,
    }


def types_of(wish: Wish) -> list[str]:
    """The types of a wish, in one order always."""
    return [kind.value for kind in FOR_MERCHANTS if kind in wish.event_types]


def moment(time: datetime | None) -> str | None:
    """A time that may not have come."""
    return None if time is None else timestamp(time)
