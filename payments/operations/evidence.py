"""What a gateway's reply proves, and what follows from it: one table over every combination.

A reply is about one request. A payment fails only when every request that was sent under its key provably did not take
the charge, so what follows from a reply depends on what became of the earlier requests under the same key.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final

from django.db.models import QuerySet

from payments.gateways.base import (
    Approved,
    Declined,
    LookupAnswer,
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unavailable,
)
from payments.models import Attempt, Payment
from payments.states import AttemptKind, Outcome, Status


class Earlier(StrEnum):
    """What is known of the earlier charge requests under the key of a reply."""

    #: There is none, or each provably did not take the charge.
    NONE_TAKEN = auto()
    #: At least one may have taken the charge.
    UNRESOLVED = auto()
    #: At least one may have taken the charge, and a later one was declined or rejected: sending again proves nothing.
    UNRESOLVED_AND_REFUSED = auto()
    #: The payment failed by proof and staff replay it: the gateway is asked about the key before anything is sent.
    REPLAYED = auto()


class Consequence(Enum):
    """What follows from a reply."""

    SUCCEED = auto()
    FAIL_DECLINED = auto()
    FAIL_REJECTED = auto()
    #: Send again later, and fail when all retries are used.
    RETRY = auto()
    #: Ask the gateway what became of the key, on the schedule of unknown outcomes.
    LOOK_UP_LATER = auto()
    #: Ask the gateway at once: one request was declined, and an earlier one may have been taken.
    LOOK_UP_NOW = auto()
    #: Send again under the same key once the "not found" can be believed.
    SEND_AGAIN = auto()
    #: Send again under the next key: this one is declined for good, and staff want another try.
    SEND_UNDER_NEXT_KEY = auto()


Replies = Mapping[type[LookupAnswer], Consequence]

_CHARGED: Final[Mapping[Earlier, Replies]] = {
    Earlier.NONE_TAKEN: {
        Approved: Consequence.SUCCEED,
        Declined: Consequence.FAIL_DECLINED,
        RequestRejected: Consequence.FAIL_REJECTED,
        Unavailable: Consequence.RETRY,
        OutcomeUnknown: Consequence.LOOK_UP_LATER,
    },
    Earlier.UNRESOLVED: {
        Approved: Consequence.SUCCEED,
        Declined: Consequence.LOOK_UP_NOW,
        RequestRejected: Consequence.LOOK_UP_LATER,
        Unavailable: Consequence.LOOK_UP_LATER,
        OutcomeUnknown: Consequence.LOOK_UP_LATER,
    },
}
_LOOKED_UP: Final[Replies] = {
    Approved: Consequence.SUCCEED,
    Declined: Consequence.FAIL_DECLINED,
    RequestRejected: Consequence.LOOK_UP_LATER,
    Unavailable: Consequence.LOOK_UP_LATER,
    OutcomeUnknown: Consequence.LOOK_UP_LATER,
    NotFound: Consequence.SEND_AGAIN,
}

#: (call, earlier requests) -> reply -> consequence. A charge is never answered with `NotFound`, and is never sent while
#: a replay still has to ask about the key.
TABLE: Final[Mapping[tuple[AttemptKind, Earlier], Replies]] = {
    (AttemptKind.CHARGE, Earlier.NONE_TAKEN): _CHARGED[Earlier.NONE_TAKEN],
    (AttemptKind.CHARGE, Earlier.UNRESOLVED): _CHARGED[Earlier.UNRESOLVED],
    (AttemptKind.CHARGE, Earlier.UNRESOLVED_AND_REFUSED): _CHARGED[Earlier.UNRESOLVED],
    (AttemptKind.LOOKUP, Earlier.NONE_TAKEN): _LOOKED_UP,
    (AttemptKind.LOOKUP, Earlier.UNRESOLVED): _LOOKED_UP,
    (AttemptKind.LOOKUP, Earlier.UNRESOLVED_AND_REFUSED): {**_LOOKED_UP, NotFound: Consequence.LOOK_UP_LATER},
    (AttemptKind.LOOKUP, Earlier.REPLAYED): {
        Approved: Consequence.SUCCEED,
        Declined: Consequence.SEND_UNDER_NEXT_KEY,
        RequestRejected: Consequence.RETRY,
        Unavailable: Consequence.RETRY,
        OutcomeUnknown: Consequence.RETRY,
        NotFound: Consequence.SEND_AGAIN,
    },
}

#: Outcomes of a charge request that prove that it did not take the charge.
_NOT_TAKEN: Final = frozenset({Outcome.DECLINED, Outcome.REJECTED, Outcome.UNAVAILABLE})
#: Outcomes that the gateway would repeat for the same request.
_REFUSED: Final = frozenset({Outcome.DECLINED, Outcome.REJECTED})


def consequence_of(kind: AttemptKind, earlier: Earlier, reply: LookupAnswer) -> Consequence:
    """Return what follows from a reply to a call of this kind."""
    return TABLE[kind, earlier][type(reply)]


def earlier_requests(payment: Payment, *, attempt_id: int) -> Earlier:
    """Return what is known of a locked payment's charge requests, other than the given attempt.

    One query, and none for the first request of a payment.
    """
    if payment.look_up_first:
        return Earlier.REPLAYED
    if payment.charge_attempts <= 1 and payment.status == Status.PROCESSING:
        return Earlier.NONE_TAKEN
    outcomes = set(_charge_requests(payment).exclude(pk=attempt_id).values_list("outcome", flat=True))
    if outcomes <= _NOT_TAKEN:
        return Earlier.NONE_TAKEN
    return Earlier.UNRESOLVED_AND_REFUSED if outcomes & _REFUSED else Earlier.UNRESOLVED


def may_have_been_taken(payment: Payment) -> bool:
    """Return whether any charge request under the payment's key lacks proof that it did not take the charge."""
    return _charge_requests(payment).exclude(outcome__in=_NOT_TAKEN).exists()


def _charge_requests(payment: Payment) -> QuerySet[Attempt]:
    return payment.attempts.filter(kind=AttemptKind.CHARGE, gateway_key=payment.gateway_key)
