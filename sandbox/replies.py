"""What a request is answered with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.behaviours import Trouble
from sandbox.journal import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status and a document to send as JSON; with a `trouble`, that comes in its place."""

    status: int = 200
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None


class Refusal(Exception):
    """A request that is answered with an error, and that did nothing."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers

    @property
    def reply(self) -> Reply:
        """The error in the gateway's own format."""
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        document = {"error": {"code": self.code, "message": self.message}}
        return Reply(status=self.status, document=document, headers=headers)


#: The troubles in which the gateway still speaks for itself. They say that *this* request was not taken, and
#: nothing of an earlier one under the same key.
REFUSALS: Final[dict[Trouble, Reply]] = {
    Trouble.UNAVAILABLE: Refusal(503, "unavailable", "The gateway is down; this request was not taken.").reply,
    Trouble.RATE_LIMITED: Refusal(
        429, "rate_limited", "Too many requests; this one was not taken.", Retry_After="1"
    ).reply,
}


def of_trouble(trouble: Trouble) -> Reply:
    """What becomes of a request that runs into trouble before anything is decided."""
    return REFUSALS.get(trouble) or Reply(trouble=trouble)


def of_decision(entry: Entry, trouble: Trouble | None = None) -> Reply:
    """An approval or a decline, or what comes in its place."""
    if entry.decline_code:
        error = {"code": "declined", "decline_code": entry.decline_code, "charge": entry.reference}
        document: dict[str, Any] = {"error": {**error, "message": "The charge was declined."}}
        return Reply(status=402, document=document, trouble=trouble)
    names = ("idempotency_key", "payment_id", "amount", "currency")
    charge = {"id": entry.reference, "status": "approved", **{name: getattr(entry, name) for name in names}}
    return Reply(document=charge, trouble=trouble)


def of_charges(charges: Sequence[tuple[Entry, int]], *, has_more: bool) -> Reply:
    """A page of the list of charges, each with what was refunded of it."""
    data = [listed(entry, refunded) for entry, refunded in charges]
    cursor = str(charges[-1][0].seq) if has_more else None
    return Reply(document={"object": "list", "data": data, "has_more": has_more, "next_cursor": cursor})


def listed(entry: Entry, refunded: int) -> dict[str, Any]:
    """One charge of the list."""
    terms = ("idempotency_key", "payment_id", "merchant", "order_id", "amount", "currency", "decline_code")
    charge = {"id": entry.reference, "object": "charge", "status": entry.outcome, "created_at": entry.created_at}
    return {**charge, **{name: getattr(entry, name) for name in terms}, "amount_refunded": refunded}


def of_refund(entry: Entry, trouble: Trouble | None = None) -> Reply:
    """A refund, or what comes in its place."""
    document = {
        "id": entry.reference,
        "object": "refund",
        "status": "succeeded",
        "charge": entry.charge,
        "amount": entry.amount,
        "currency": entry.currency,
        "created_at": entry.created_at,
    }
    return Reply(document=document, trouble=trouble)
