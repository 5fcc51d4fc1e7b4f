"""What a gateway adapter promises: it turns everything that can happen on the wire into one of these answers.

What an answer proves decides what may happen next, so adapters sort with care: `Unavailable` only where
the gateway provably did not take the request, `OutcomeUnknown` whenever in doubt. Adapters never raise
for anything the network or the gateway does.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRequest:
    """What the gateway is asked; `amount` is in minor units, `key` is the idempotency key it sees."""

    key: str
    payment_id: UUID
    merchant: str
    order_id: str
    amount: int
    currency: str
    payment_method: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The charge was made; `reference` is its id at the gateway."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The charge was refused for good: a business outcome, not a fault."""

    decline_code: str
    detail: str
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The gateway provably did not take the request: it may be sent again.

    `retry_after`: seconds before which the gateway asks not to be called again, if it said so.
    """

    detail: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The request may have been taken: nobody may send it again before looking."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """A look-up's answer: the gateway knows no charge under this key. Counts only after the grace period."""


ChargeAnswer = Approved | Declined | Unavailable | OutcomeUnknown
LookupAnswer = ChargeAnswer | NotFound


class Gateway(Protocol):
    """One gateway account.

    `key_window`: how long after a key's first use the gateway still recognises it. Past it a charge is
    never sent again.
    `grace_period`: how long after a request may have arrived a "not found" can still be wrong.
    """

    key_window: timedelta
    grace_period: timedelta

    def charge(self, request: ChargeRequest, *, deadline: float) -> ChargeAnswer:
        """Charge once per key, within `deadline` seconds in all."""

    def look_up(self, request: ChargeRequest, *, deadline: float) -> LookupAnswer:
        """What became of the charge under this key, within `deadline` seconds in all."""
