"""The names of what can happen to a payment. Other rooms react to these; this module imports nothing of ours."""

from enum import StrEnum
from typing import Final

#: The version of the snapshot's shape, in every snapshot as `schema`. Grows when a field changes its meaning.
SNAPSHOT_SCHEMA: Final = 1


class EventType(StrEnum):
    """One per state that a payment can enter, and more for its creation and for what people must look at."""

    CREATED = "payment.created"
    REPLAYED = "payment.replayed"
    PROCESSING = "payment.processing"
    UNKNOWN = "payment.unknown"
    AUTHORIZED = "payment.authorized"
    SUCCEEDED = "payment.succeeded"
    FAILED = "payment.failed"
    CANCELED = "payment.canceled"
    NEEDS_REVIEW = "payment.needs_review"


#: For lists of choices; the API's documentation calls them `EventType` by it.
EVENT_TYPES: Final = [kind.value for kind in EventType]


def entered(status: str) -> EventType:
    """The event of entering a state. A payment enters `pending` again only by a replay."""
    return EventType.REPLAYED if status == "pending" else EventType(f"payment.{status}")
