"""Step 5: what an answer means. The answer is recorded always; what follows from it is one transaction.

Nothing is guessed: a payment fails only by proof, and while an outcome is unknown it is only ever asked for.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, Max, Min, When

from messaging import clock, records
from messaging.failpoints import failpoint
from payments import transitions
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
from payments.operations import outcomes, schedule
from payments.operations.claims import Call, Claim, is_too_old, lock_payments, open_attempts
from payments.operations.evidence import Consequence, consequence_of, earlier_requests
from payments.states import AttemptKind, Outcome, Status

log = structlog.get_logger(__name__)

#: How much shorter than the gateway says its key window is taken to be. The window is measured by the database's clock,
#: which may have been set back by up to this much since the first request.
CLOCK_MARGIN: Final = timedelta(hours=1)


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
    found = lock_payments(ids_of(answered), skip_locked=len(answered) > 1)
    if not found and len(answered) == 1:
        outcomes.record_lost_payment(answered[0].claim, approval_of(answered[0]))
        return []
    if not found:
        return list(answered)
    by_id, now = {payment.pk: payment for payment, _, _ in found}, found[0].now
    free = [one for one in answered if one.claim.request.payment_id in by_id]
    news = {one.claim.request.payment_id: one for one in record_answers(free, now=now)}
    failpoint("charge.settling")
    told = [(payment, news[payment.pk]) for payment, _, _ in found if payment.pk in news]
    outcomes.succeed_all([(payment, approval_of(one)) for payment, one in told if holds(payment, one)], now=now)
    for payment, one in told:
        if not holds(payment, one):
            take_up_late(payment, one.answer, now=now)
    for one in free:  # recorded before, or a failover has lost the attempt and the claim
        if one.claim.request.payment_id not in news:
            outcomes.learn(by_id[one.claim.request.payment_id], one.answer, now=now)
    return [one for one in answered if one.claim.request.payment_id not in by_id]


@transaction.atomic(durable=True)
def settle_other(one: Answered) -> Claim | None:
    """Settle any reply but an approval; return a new claim where another call is due at once."""
    asked_at = clock.elapsed_seconds()
    claim, answer = one
    found = lock_payments(ids_of([one]))
    if not found:
        log.error("payment_lost", payment_id=str(claim.request.payment_id), answer=type(answer).__name__)
        return None
    ((payment, now, in_trouble),) = found
    if not record_answers([one], now=now):
        return None  # settled before; only the news of its commit was lost
    failpoint("charge.settling")
    if not holds(payment, one):
        take_up_late(payment, answer, now=now)
        return None
    if isinstance(answer, OutcomeUnknown) and answer.conflict is not None:
        outcomes.flag_conflict(payment, answer.conflict, now=now)
    if isinstance(answer, Unavailable | OutcomeUnknown) and tells_of_the_gateway_only(claim, answer):
        next_probe = now + timedelta(seconds=claim.gateway.breaker.open_for)
        schedule.hold(payment, code="gateway_unavailable", until=next_probe, now=now)
        return None
    earlier = earlier_requests(payment, attempt_id=claim.attempt_id)
    consequence = consequence_of(AttemptKind(claim.kind), earlier, answer)
    if consequence in CALLS:
        return call_again(payment, claim, consequence, now=now, asked_at=asked_at, in_trouble=in_trouble)
    follow(payment, answer, consequence, now=now)
    return None


def ids_of(answered: Sequence[Answered]) -> list[UUID]:
    """The ids of the payments that the answers are about."""
    return [one.claim.request.payment_id for one in answered]


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


def follow(payment: Payment, answer: LookupAnswer, consequence: Consequence, *, now: datetime) -> None:
    """Let a locked payment follow a reply that leads to no call at once; its claim still holds it."""
    match consequence, answer:
        case Consequence.FAIL_DECLINED, Declined():
            outcomes.decline(payment, answer, now=now)
        case Consequence.FAIL_REJECTED, RequestRejected():
            outcomes.reject(payment, answer, now=now)
        case Consequence.RETRY, RequestRejected() | Unavailable() | OutcomeUnknown():
            schedule.retry_or_give_up(payment, answer, now=now)
        case Consequence.LOOK_UP_LATER, _:
            schedule.look_up_later(payment, detail=getattr(answer, "detail", NOT_FOUND), now=now)
        case _:
            raise AssertionError(f"{consequence} does not follow from {type(answer).__name__}")


#: Consequences that are another call to the gateway, made at once.
CALLS: Final = frozenset({Consequence.LOOK_UP_NOW, Consequence.SEND_AGAIN, Consequence.SEND_UNDER_NEXT_KEY})
NOT_FOUND: Final = "not found at the gateway, which refused a later request under the same key"


def call_again(
    payment: Payment, claim: Claim, consequence: Consequence, *, now: datetime, asked_at: float, in_trouble: bool
) -> Claim | None:
    """Return the claim for the next call, or schedule it where it may not be made now."""
    if consequence is Consequence.LOOK_UP_NOW and payment.status == Status.PROCESSING:
        transitions.move(payment, Status.UNKNOWN, now=now, error_code="outcome_unknown", error_detail="")
    if in_trouble:
        schedule.take_up(payment, at=now, now=now)  # claimed again, or held, as the gateway's state then says
        return None
    if consequence is Consequence.LOOK_UP_NOW:
        return call(payment, AttemptKind.LOOKUP, now=now, asked_at=asked_at)
    if consequence is Consequence.SEND_UNDER_NEXT_KEY:
        return charge_anew(payment, now=now, asked_at=asked_at)
    return send_again_or_wait(payment, claim, now=now, asked_at=asked_at)


ANSWER: Final = {
    "id": "bigint",
    "payment_id": "uuid",
    "outcome": "text",
    "code": "text",
    "detail": "text",
    "gateway_reference": "text",
}
#: The payment is compared too: a failover that has lost attempts gives their ids to attempts of other payments.
RECORD: Final = """
    UPDATE payments_attempt AS attempt
    SET outcome = answer.outcome, code = answer.code, detail = answer.detail,
        gateway_reference = answer.gateway_reference, finished_at = %s
    FROM {answers}
    WHERE attempt.id = answer.id AND attempt.payment_id = answer.payment_id AND attempt.outcome IN ('', 'abandoned')
    RETURNING attempt.id
"""
RECORD_ANSWERS: Final = RECORD.format(answers=records.records(ANSWER, name="answer"))
OUTCOME_OF: Final = {
    Approved: Outcome.APPROVED,
    Declined: Outcome.DECLINED,
    RequestRejected: Outcome.REJECTED,
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
        "payment_id": str(one.claim.request.payment_id),
        "outcome": OUTCOME_OF[type(answer)],
        "code": getattr(answer, "decline_code", "") or getattr(answer, "code", ""),
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
    return call(payment, AttemptKind.CHARGE, now=now, asked_at=asked_at)


def send_again_or_wait(payment: Payment, claim: Claim, *, now: datetime, asked_at: float) -> Claim | None:
    """The gateway knew no charge under this key: send again, if it was asked after the grace period.

    With the same key, and only as long as the gateway would recognise a first request that arrives after all.
    When it was asked counts, not when its answer is stored: between the two the first request may have arrived.
    """
    first, last = sent_between(payment, claim, now=now)
    claimed_at = Attempt.objects.values_list("started_at", flat=True).get(pk=claim.attempt_id)
    believable_at = None if last is None else last + claim.gateway.adapter.grace_period
    if believable_at is not None and claimed_at < believable_at:
        schedule.take_up(payment, at=max(believable_at, now), now=now)
        return None
    window_ends = (first or now) + claim.gateway.adapter.key_window - CLOCK_MARGIN
    if now + claim.gateway.lease >= window_ends or is_too_old(payment, now=now):
        detail = "not found at the gateway, and too late to send again"
        schedule.give_up(payment, code="expired", detail=detail, now=now)
        return None
    return call(payment, AttemptKind.CHARGE, now=now, asked_at=asked_at)


def sent_between(payment: Payment, claim: Claim, *, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return when the first charge request under the claim's key may have been sent, and the last one have arrived.

    None and None where each provably did not arrive. An abandoned request may still be under way: its lease has
    expired by the database's clock, which may have been set forward since the claim. Its worker makes no call after
    the lease has expired by the worker's own clock, which is at the latest one lease after the request was abandoned.
    """
    lease = claim.gateway.lease
    ended = Case(When(outcome=Outcome.ABANDONED, then=F("finished_at") + lease), default=F("finished_at"))
    sent = Attempt.objects.filter(
        payment=payment, gateway_key=claim.request.key, kind=AttemptKind.CHARGE, finished_at__isnull=False
    ).exclude(outcome__in=[Outcome.UNAVAILABLE, Outcome.REJECTED])
    times = sent.aggregate(first=Min("started_at"), last=Max(ended))
    return times["first"], times["last"]


def call(payment: Payment, kind: AttemptKind, *, now: datetime, asked_at: float) -> Claim:
    """Return the claim for a call that is made at once."""
    (claim,) = open_attempts([Call(payment, kind, now)], asked_at=asked_at)
    return claim
