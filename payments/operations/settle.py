"""Step 5: what an answer means. The answer is recorded always; what follows from it is one transaction.

Nothing is guessed: a payment fails only by proof, and while an outcome is unknown it is only ever asked for.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Max, Min

from messaging import records
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
from payments.operations.claims import Call, Claim, Locked, is_too_old, lock_payments, open_attempts
from payments.states import AttemptKind, Outcome, Status

log = structlog.get_logger(__name__)


class Answered(NamedTuple):
    """A claim, and what the gateway said."""

    claim: Claim
    answer: LookupAnswer


def settled_together(answered: Sequence[Answered]) -> list[list[Answered]]:
    """Which answers are one transaction: all approvals, as nearly all answers are, and they concern nobody but their
    payments. Every other answer is one of its own.
    """
    approvals = [one for one in answered if isinstance(one.answer, Approved)]
    others = [[one] for one in answered if not isinstance(one.answer, Approved)]
    return [approvals, *others] if approvals else others


def settle(answered: Sequence[Answered]) -> list[Claim]:
    """Record answers and let their payments follow them; returns new claims where another call is due at once.

    Takes one of the lists that `settled_together` makes.
    """
    if isinstance(answered[0].answer, Approved):
        for locked in settle_approvals(answered):
            settle_approvals([locked])
        return []
    (one,) = answered
    following = settle_other(one)
    return [] if following is None else [following]


@transaction.atomic(durable=True)
def settle_approvals(answered: Sequence[Answered]) -> list[Answered]:
    """The charges were made. Of those whose claim another one has followed since, people must know.

    Several wait for no lock; returns those whose payments somebody else has locked.
    """
    found = lock_payments(ids_of(answered), skip_locked=True) if len(answered) > 1 else lock_all(answered)
    if not found:
        return list(answered)
    ours, now = {payment.pk for payment, _, _ in found}, found[0].now
    free = [one for one in answered if one.claim.request.payment_id in ours]
    news = {one.claim.request.payment_id: one for one in record_answers(free, now=now)}
    failpoint("charge.settling")
    told = [(payment, news[payment.pk]) for payment, _, _ in found if payment.pk in news]
    outcomes.succeed_all([(payment, approval_of(one)) for payment, one in told if holds(payment, one)], now=now)
    for payment, one in told:
        if not holds(payment, one):
            take_up_late(payment, one.answer, now=now)
    return [one for one in answered if one.claim.request.payment_id not in ours]


@transaction.atomic(durable=True)
def settle_other(one: Answered) -> Claim | None:
    """Any answer but an approval."""
    asked_at = time.monotonic()
    claim, answer = one
    ((payment, now, in_trouble),) = lock_all([one])
    if not record_answers([one], now=now):
        return None  # settled before; only the news of its commit was lost
    failpoint("charge.settling")
    if not holds(payment, one):
        take_up_late(payment, answer, now=now)
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


def ids_of(answered: Sequence[Answered]) -> list[UUID]:
    """The ids of the payments that the answers are about."""
    return [one.claim.request.payment_id for one in answered]


def lock_all(answered: Sequence[Answered]) -> list[Locked]:
    """The payments that the answers are about, all of them."""
    found = lock_payments(ids_of(answered))
    assert len(found) == len(answered), "payments are never deleted, and each has one claim"
    return found


def approval_of(one: Answered) -> Approved:
    """What was said, where it is known to be an approval."""
    assert isinstance(one.answer, Approved), "nothing else makes a payment succeed"
    return one.answer


def holds(payment: Payment, one: Answered) -> bool:
    """Whether the claim that was answered is still the payment's last."""
    return payment.fence == one.claim.fence


def take_up_late(payment: Payment, answer: LookupAnswer, *, now: datetime) -> None:
    """An answer to a claim that somebody else's has followed since."""
    log.warning("late_answer", payment_id=str(payment.pk), answer=type(answer).__name__, status=payment.status)
    outcomes.learn(payment, answer, now=now)


def follow(payment: Payment, claim: Claim, answer: ChargeAnswer, *, now: datetime) -> None:
    """What an answer about a charge leads to; the payment is locked and the claim still holds it."""
    match answer:
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


ANSWER: Final = {"id": "bigint", "outcome": "text", "code": "text", "detail": "text", "gateway_reference": "text"}
RECORD: Final = """
    UPDATE payments_attempt AS attempt
    SET outcome = answer.outcome, code = answer.code, detail = answer.detail,
        gateway_reference = answer.gateway_reference, finished_at = %s
    FROM {answers}
    WHERE attempt.id = answer.id AND attempt.outcome IN ('', 'abandoned')
    RETURNING attempt.id
"""
RECORD_ANSWERS: Final = RECORD.format(answers=records.records(ANSWER, name="answer"))
OUTCOME_OF: Final = {
    Approved: Outcome.APPROVED,
    Declined: Outcome.DECLINED,
    Unavailable: Outcome.UNAVAILABLE,
    OutcomeUnknown: Outcome.UNKNOWN,
    NotFound: Outcome.NOT_FOUND,
}


def record_answers(answered: Sequence[Answered], *, now: datetime) -> list[Answered]:
    """Complete the attempts, even those that were given up for abandoned; returns those without an answer so far."""
    with connection.cursor() as cursor:
        cursor.execute(RECORD_ANSWERS, [now, *records.parameters([written(one) for one in answered])])
        completed = {attempt_id for (attempt_id,) in cursor.fetchall()}
    return [one for one in answered if one.claim.attempt_id in completed]


def written(one: Answered) -> dict[str, Any]:
    """An answer as its attempt keeps it."""
    answer = one.answer
    return {
        "id": one.claim.attempt_id,
        "outcome": OUTCOME_OF[type(answer)],
        "code": getattr(answer, "decline_code", ""),
        "detail": getattr(answer, "detail", ""),
        "gateway_reference": getattr(answer, "reference", ""),
    }


def tells_of_the_gateway_only(claim: Claim, answer: Unavailable | OutcomeUnknown) -> bool:
    """Whether a probe failed and the payment that went ahead as the probe stands as before: it burns nothing."""
    return claim.probe and (claim.kind == AttemptKind.LOOKUP or isinstance(answer, Unavailable))


def charge_anew(payment: Payment, *, now: datetime, asked_at: float) -> Claim | None:
    """A replayed payment was declined under its key, for ever: people want it tried again, so under the next one."""
    if is_too_old(payment, now=now):
        schedule.expire(payment, now=now)
        return None
    transitions.stay(payment, key_number=payment.key_number + 1)
    return charge(payment, now=now, asked_at=asked_at)


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
    return charge(payment, now=now, asked_at=asked_at)


def charge(payment: Payment, *, now: datetime, asked_at: float) -> Claim:
    """The claim for a charge that is sent at once."""
    (claim,) = open_attempts([Call(payment, AttemptKind.CHARGE, now)], asked_at=asked_at)
    return claim
