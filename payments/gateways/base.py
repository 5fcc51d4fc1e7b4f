"""What a gateway adapter promises: it turns everything that can happen on the wire into one of these answers.

What an answer proves decides what may happen next, so adapters sort with care: `Unavailable` only where
the gateway provably did not take the request, `OutcomeUnknown` whenever in doubt. Adapters never raise
for anything the network or the gateway does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
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
class RequestRejected:
    """The gateway refused this request as invalid: it did nothing, and the same request would be refused again.

    It proves nothing about an earlier request under the same key: that one may have been taken.
    """

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The gateway provably did not take the request: it may be sent again.

    `retry_after` (seconds): the gateway asks not to be called earlier.
    """

    detail: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictingCharge:
    """A charge that the gateway holds under our key, and that is not the one we asked for.

    `amount` is in minor units; `payment_id` is the id that the gateway names, if it names one.
    """

    reference: str
    amount: int
    currency: str
    payment_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The request may have been taken: it must not be sent again before the gateway was asked.

    `conflict`: the gateway answered with another charge under our key. Staff must decide about that one.
    """

    detail: str
    conflict: ConflictingCharge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """A look-up's answer: the gateway knows no charge under this key. Counts only after the grace period."""


ChargeAnswer = Approved | Declined | RequestRejected | Unavailable | OutcomeUnknown
LookupAnswer = ChargeAnswer | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """A webhook that the gateway has signed; `id` is the gateway's own, the same at every repetition."""

    id: str
    type: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a webhook says of a charge; `amount` is in minor units, `key` is the idempotency key of its request.

    What follows `answer` may be missing.
    """

    payment_id: UUID
    amount: int
    currency: str
    answer: Approved | Declined
    key: str = ""
    merchant: str = ""
    order_id: str = ""
    charged_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCharge:
    """One charge of the gateway's own list; `amount` is in minor units, `charged_at` by the gateway's clock."""

    reference: str
    approved: bool
    key: str
    payment_id: str
    merchant: str
    order_id: str
    amount: int
    currency: str
    charged_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePage:
    """A page of the gateway's list, oldest charge first; without `next_cursor` it is the last one."""

    charges: Sequence[ListedCharge]
    next_cursor: str | None


class ListFailed(Exception):
    """The gateway did not return a page of its list; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """A refund of (a part of) a charge; `reference` is the charge's id at the gateway."""

    key: str
    reference: str
    amount: int
    currency: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """The refund was made; `reference` is its id at the gateway."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRefused:
    """This request made no refund, and the same request would be refused again."""

    code: str
    detail: str


RefundAnswer = Refunded | RefundRefused | Unavailable | OutcomeUnknown
RefundLookupAnswer = Refunded | NotFound | OutcomeUnknown


class NotAuthentic(Exception):
    """The signature is missing, wrong or too old: whoever sent this, it proves nothing."""


class Gateway(Protocol):
    """One gateway account. Its calls run on an event loop, very many at a time: nothing in them may block.

    `key_window`: how long after a key's first use the gateway still recognises it. Past it a charge is
    never sent again.
    `grace_period`: how long after a request may have arrived a "not found" can still be wrong.
    """

    key_window: timedelta
    grace_period: timedelta

    async def charge(self, request: ChargeRequest, *, deadline: float) -> ChargeAnswer:
        """Charge once per key, within `deadline` seconds in all."""

    async def look_up(self, request: ChargeRequest, *, deadline: float) -> LookupAnswer:
        """What became of the charge under this key, within `deadline` seconds in all."""

    async def list_charges(
        self, *, since: datetime, until: datetime, cursor: str | None, deadline: float
    ) -> ChargePage:
        """Return one page of the charges made from `since` to before `until`, declined ones included.

        Raises:
            ListFailed: there is no whole, well-formed page.
        """

    async def refund_charge(self, request: RefundRequest, *, deadline: float) -> RefundAnswer:
        """Refund once per key, within `deadline` seconds in all."""

    async def look_up_refund(self, request: RefundRequest, *, deadline: float) -> RefundLookupAnswer:
        """What became of the refund under this key, within `deadline` seconds in all."""

    def verify_webhook(self, *, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """What the gateway has told us by itself; header names are in lower case.

        Raises:
            NotAuthentic: it cannot be shown that the gateway sent it, just now and for us.
        """

    def read_event(self, body: Mapping[str, Any]) -> News | None:
        """What a verified webhook says of one of our charges, if it says anything definite."""
