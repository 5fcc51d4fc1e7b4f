"""What is told, before it is put into the words of a channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from payments.events import EventType


class OwnType(StrEnum):
    """What this room itself tells of."""

    TEST = "webhook_endpoint.test"
    FAILING = "webhook_endpoint.failing"
    DISABLED = "webhook_endpoint.disabled"


#: Of what a payer can be told by mail and SMS, and of what a merchant's own people can.
FOR_PAYERS: Final = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELED, EventType.AUTHORIZED)
FOR_MERCHANTS: Final = (*FOR_PAYERS, EventType.UNKNOWN, EventType.NEEDS_REVIEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event for one recipient.

    `data`: the payment as it was right after the event (`payments.reads.PaymentView`), or for our own types what they
    say: `url`, and of FAILING and DISABLED `reason` and `since` (RFC 3339).
    `merchant`: its name; `reply_to`: its address, or empty. `language`: a code of the setting `LANGUAGES`.
    """

    event_id: UUID
    type: str
    occurred_at: datetime
    mode: str
    audience: str
    language: str
    merchant: str
    reply_to: str
    data: Mapping[str, Any]
