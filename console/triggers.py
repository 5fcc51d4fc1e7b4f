"""Payments that end in a wanted event, for trying out who is told of it."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from merchants.models import Merchant, Mode
from payments.events import EventType
from payments.operations import accept_payment
from payments.serializers import request_in

#: Event -> the payment method by which the sandbox makes it happen. `payment.created` happens to every payment.
METHODS: Final[Mapping[str, str]] = {
    EventType.CREATED.value: "pm_ok",
    EventType.SUCCEEDED.value: "pm_ok",
    EventType.FAILED.value: "pm_declined",
    EventType.PROCESSING.value: "pm_flaky_2",
    EventType.UNKNOWN.value: "pm_timeout_charged",
}
#: Names under which people look for them.
ALIASES: Final[Mapping[str, str]] = {"payment.declined": EventType.FAILED.value}


def method_for(event_type: str) -> str | None:
    """The payment method that leads to an event, if one does."""
    return METHODS.get(ALIASES.get(event_type, event_type))


def trigger(*, merchant: Merchant, payment_method: str, fields: Mapping[str, Any]) -> str:
    """Ask for a test payment as the API would; returns its id.

    Raises:
        ValidationError, Refused: as the API would refuse it.
    """
    body = {"payment_method": payment_method, **fields}
    key = f"trigger-{uuid.uuid4().hex}"
    answer = accept_payment(
        merchant=merchant,
        mode=Mode.TEST,
        idempotency_key=key,
        request=request_in(body, merchant=merchant),
        request_id=key,
        now=timezone.now(),
    )
    return answer.location.rpartition("/")[2]
