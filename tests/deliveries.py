"""Deliveries for tests: made without a payment, and brought on their way attempt by attempt."""

import uuid
from datetime import timedelta

from django.utils import timezone

from merchants.models import Mode
from notifications import attempts, endpoints
from notifications.models import Delivery
from notifications.outcomes import Delivered, Failed

HOOK = "https://shop.example/hooks"
OK = Delivered(status_code=204)
DOWN = Failed(detail="connection refused")


def endpoint_of(merchant, url=HOOK, **fields):
    made, _ = endpoints.create(merchant=merchant, mode=Mode.TEST, url=url, **fields)
    return made


def delivery_to(endpoint=None, *, merchant=None, channel="webhook", recipient=HOOK, now=None, **fields):
    """A delivery that is due, of an event that is about nothing."""
    now = now or timezone.now()
    given = {
        "merchant": merchant or endpoint.merchant,
        "mode": "test",
        "event_id": uuid.uuid4(),
        "event_type": "webhook_endpoint.test",
        "channel": channel,
        "recipient": recipient,
        "endpoint": endpoint,
        "data": {"url": recipient},
        "occurred_at": now,
        "next_attempt_at": now,
        "revive_at": now + timedelta(seconds=60),
    }
    return Delivery.objects.create(**{**given, **fields})


def attempt(delivery, result, *, now):
    """One attempt, if one is due now; whether there was one."""
    if delivery.endpoint_id:
        claim = attempts.claim_for_endpoint(delivery.endpoint_id, now=now)
    else:
        claim = attempts.claim(delivery.pk, now=now)
    if claim is None:
        return False
    attempts.settle(claim, result, latency=timedelta(milliseconds=7), now=now)
    return True


def again(row):
    row.refresh_from_db()
    return row
