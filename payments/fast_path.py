"""Requests to create payments, many at once: whatever is in order is accepted by a statement of each kind.

It only ever says yes. Of a request that is refused, wrong or in somebody's way it says nothing and leaves nothing
behind: that one goes by `payments.views.PaymentsView`, which does the same one by one, and knows the words for
everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.utils import timezone

from merchants import buckets, limits
from merchants.callers import Credential, callers_behind
from merchants.limits import Usage
from merchants.models import Scope
from merchants.principal import Principal
from payments.idempotency import Answer, key_of
from payments.operations import Outcome, Wish, accept_at_once
from payments.parsers import read_document
from payments.serializers import request_in

NEEDED: Final = Scope.PAYMENTS_WRITE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, not yet looked at: who it says it is of, its header `Idempotency-Key`, and its body."""

    credential: Credential
    idempotency_key: str | None
    body: bytes = field(repr=False)
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer to a request, for whom, and how far the limit is used up."""

    answer: Answer
    caller: Principal
    usage: Usage


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that is in order."""

    caller: Principal
    wish: Wish


def accept_together(asked: Sequence[Asked]) -> list[Accepted | None]:
    """Accept what can be; None for each that must go the other way."""
    now = timezone.now()
    callers = callers_behind((each.credential for each in asked), now=now)
    ready = [read(each, callers.get(each.credential), now=now) for each in asked]
    settled = iter(accept_ready([each for each in ready if each is not None]))
    return [None if each is None else next(settled) for each in ready]


def read(asked: Asked, caller: Principal | None, *, now: datetime) -> Ready | None:
    """What a request asks for, if all is right with it."""
    if caller is None or NEEDED not in caller.scopes:
        return None
    try:
        body = read_document(asked.body)
        wish = Wish(
            merchant=caller.merchant,
            mode=caller.mode,
            idempotency_key=key_of(body, header=asked.idempotency_key),
            request=request_in(body, merchant=caller.merchant),
            request_id=asked.request_id,
            now=now,
        )
    except Exception:  # noqa: BLE001  # a refusal, or a defect: whichever it is, the others of the list go on
        return None
    return Ready(caller, wish)


def accept_ready(ready: Sequence[Ready]) -> list[Accepted | None]:
    """Those for which their merchants have tokens left."""
    answers = buckets.take_for_each([(each.wish.merchant, each.wish.mode) for each in ready])
    tickets = [ticket for ticket in answers if ticket is not None]
    admitted = [each for each, ticket in zip(ready, answers, strict=True) if ticket is not None]
    outcomes: list[Outcome | None] = [None] * len(admitted)
    try:
        outcomes = accept_at_once([each.wish for each in admitted]) if admitted else []
    finally:  # Redis may count where the database is away
        give_back_unused(tickets, outcomes)
    settled = iter(zip(admitted, tickets, outcomes, strict=True))
    return [None if ticket is None else told(*next(settled)) for ticket in answers]


def give_back_unused(tickets: Sequence[buckets.Ticket], outcomes: Sequence[Outcome | None]) -> None:
    """Return the tokens that made no payment."""
    buckets.give_back_all(ticket for ticket, outcome in zip(tickets, outcomes, strict=True) if not is_new(outcome))


def is_new(outcome: Outcome | None) -> bool:
    """Whether a payment was made, which costs a token."""
    return isinstance(outcome, Answer) and not outcome.replayed


def told(ready: Ready, ticket: buckets.Ticket, outcome: Outcome | None) -> Accepted | None:
    """The good news, if it is."""
    if not isinstance(outcome, Answer):
        return None
    return Accepted(answer=outcome, caller=ready.caller, usage=limits.usage_of(ticket))
