"""Step 5: what an answer means. The answer is recorded always; what follows from it is one transaction.

Nothing is guessed: a payment fails only by proof, and while an outcome is unknown it is only ever asked for.
"""

import time
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Max, Min

from messaging.failpoints import failpoint
from payments import transitions
from payments.gateways.base import (
    Approved,
    ChargeAnswer,
    Declined,
    LookupAnswer,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from payments.models import Attempt, Payment
from payments.operations import outcomes, schedule
from payments.operations.claims import Claim, is_too_old, lock_payment, open_attempt
from payments.states import AttemptKind, Outcome, Status

log = structlog.get_logger(__name__)


@transaction.atomic(durable=True)
def settle(claim: Claim, answer: LookupAnswer) -> Claim | None:
    """Record an answer and let the payment follow it; returns a new claim when another call is due at once."""
    asked_at = time.monotonic()
    found = lock_payment(claim.request.payment_id)
    assert found is not None, "payments are never deleted"
    payment, now, in_trouble = found
    if not record_answer(claim, answer, now=now):
        return None  # settled before; only the news of its commit was lost
    failpoint("charge.settling")
    if payment.fence != claim.fence:
        log.warning("late_answer", payment_id=str(payment.pk), answer=type(answer).__name__, status=payment.status)
        outcomes.learn(payment, answer, now=now)
        return None
    declined_before = isinstance(answer, Declined) and payment.look_up_first
    if in_trouble and (declined_before or isinstance(answer, NotFound)):
        schedule.take_up(payment, at=now, now=now)  # to be sent again, or to be held, as the gateway then does
        return None
    if isinstance(answer, NotFound):
        return send_again_or_wait(payment, claim, now=now, asked_at=asked_at)
    if declined_before:
        return charge_anew(payment, now=now, asked_at=asked_at)
    follow(payment, claim, answer, now=now)
    return None


def follow(payment: Payment, claim: Claim, answer: ChargeAnswer, *, now: datetime) -> None:
    """What an answer about a charge leads to; the payment is locked and the claim still holds it."""
    match answer:
        case Approved():
            outcomes.succeed(payment, answer, now=now)
        case Declined():
            outcomes.decline(payment, answer, now=now)
        case Unavailable() | OutcomeUnknown() if tells_of_the_gateway_only(claim, answer):
            next_probe = now + timedelta(seconds=claim.gateway.breaker.open_for)
            schedule.hold(payment, code="gateway_unavailable", until=next_probe, now=now)
        case Unavailable() | OutcomeUnknown() if payment.look_up_first:
            schedule.retry_or_give_up(payment, answer, now=now)
        case Unavailable() if payment.status == Status.PROCESSING:
            schedule.retry_or_give_up(payment, answer, now=now)
        case Unavailable() | OutcomeUnknown():
            schedule.look_up_later(payment, detail=answer.detail, now=now)


def record_answer(claim: Claim, answer: LookupAnswer, *, now: datetime) -> bool:
    """Complete the attempt, even one that was given up for abandoned; False when it has its answer already."""
    outcome_of = {
        Approved: Outcome.APPROVED,
        Declined: Outcome.DECLINED,
        Unavailable: Outcome.UNAVAILABLE,
        OutcomeUnknown: Outcome.UNKNOWN,
        NotFound: Outcome.NOT_FOUND,
    }
    unanswered = Attempt.objects.filter(pk=claim.attempt_id, outcome__in=["", Outcome.ABANDONED])
    matched = unanswered.update(
        outcome=outcome_of[type(answer)],
        code=getattr(answer, "decline_code", ""),
        detail=getattr(answer, "detail", ""),
        gateway_reference=getattr(answer, "reference", ""),
        finished_at=now,
    )
    return bool(matched)


def tells_of_the_gateway_only(claim: Claim, answer: Unavailable | OutcomeUnknown) -> bool:
    """Whether a probe failed and the payment that went ahead as the probe stands as before: it burns nothing."""
    return claim.probe and (claim.kind == AttemptKind.LOOKUP or isinstance(answer, Unavailable))


def charge_anew(payment: Payment, *, now: datetime, asked_at: float) -> Claim | None:
    """A replayed payment was declined under its key, for ever: people want it tried again, so under the next one."""
    if is_too_old(payment, now=now):
        schedule.expire(payment, now=now)
        return None
    transitions.stay(payment, key_number=payment.key_number + 1)
    return open_attempt(payment, AttemptKind.CHARGE, now=now, asked_at=asked_at)


def send_again_or_wait(payment: Payment, claim: Claim, *, now: datetime, asked_at: float) -> Claim | None:
    """The gateway knew no charge under this key: send again, if it was asked after the grace period.

    With the same key, and only as long as the gateway would recognise a first request that arrives after all.
    When it was asked counts, not when its answer is stored: between the two the first request may have arrived.
    """
    adapter = claim.gateway.adapter
    sent = Attempt.objects.filter(
        payment=payment, gateway_key=claim.request.key, kind=AttemptKind.CHARGE, finished_at__isnull=False
    ).exclude(outcome=Outcome.UNAVAILABLE)
    times = sent.aggregate(first=Min("started_at"), last=Max("finished_at"))
    believable_at = (times["last"] or now) + adapter.grace_period
    window_ends = (times["first"] or now) + adapter.key_window
    claimed_at = Attempt.objects.values_list("started_at", flat=True).get(pk=claim.attempt_id)
    if claimed_at < believable_at and times["last"]:
        schedule.take_up(payment, at=max(believable_at, now), now=now)
        return None
    if now + claim.gateway.lease >= window_ends or is_too_old(payment, now=now):
        detail = "not found at the gateway, and too late to send again"
        schedule.give_up(payment, code="expired", detail=detail, now=now)
        return None
    return open_attempt(payment, AttemptKind.CHARGE, now=now, asked_at=asked_at)
