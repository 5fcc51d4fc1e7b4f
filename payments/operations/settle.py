"""Step 5: what an answer means. The answer is recorded always; what follows from it is one transaction.

Nothing is guessed: a payment fails only by proof, and while an outcome is unknown it is only ever asked for.
"""

import random
import time
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, Min

from messaging import dead_letters, outbox
from messaging.failpoints import failpoint
from payments import transitions
from payments.gateways.base import Approved, Declined, LookupAnswer, NotFound, OutcomeUnknown, Unavailable
from payments.models import Attempt, Payment
from payments.operations.claims import Claim, abandon_open_attempts, lock_payment, open_attempt
from payments.states import AttemptKind, Outcome, Status

log = structlog.get_logger(__name__)

#: Waits before the look-ups of an unknown outcome: dense while a customer waits, then until the gateway's
#: own settlement files can be expected; after the last one, people are asked.
LOOKUP_DELAYS: Final = (
    timedelta(seconds=2),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    *[timedelta(days=1)] * 5,
)
#: Nearer calls are staged in the outbox and so are on time; farther ones are left to the rescue, which is
#: late by seconds, so that the outbox stays a queue and does not become a calendar.
OUTBOX_HORIZON: Final = timedelta(minutes=1)


@transaction.atomic(durable=True)
def settle(claim: Claim, answer: LookupAnswer) -> Claim | None:
    """Record an answer and let the payment follow it; returns a new claim when another call is due at once."""
    asked_at = time.monotonic()
    found = lock_payment(claim.request.payment_id)
    assert found is not None, "payments are never deleted"
    payment, now = found
    if not record_answer(claim, answer, now=now):
        return None  # settled before; only the news of its commit was lost
    failpoint("charge.settling")
    if payment.fence != claim.fence:
        settle_late(payment, claim, answer, now=now)
        return None
    match answer:
        case Approved():
            succeed(payment, answer, now=now)
        case Declined():
            decline(payment, answer, now=now)
        case Unavailable() if payment.status == Status.PROCESSING:
            retry_or_give_up(payment, claim, answer, now=now)
        case NotFound():
            return send_again_or_wait(payment, claim, now=now, asked_at=asked_at)
        case Unavailable() | OutcomeUnknown():
            look_up_later(payment, detail=answer.detail, now=now)
    return None


def record_answer(claim: Claim, answer: LookupAnswer, *, now: datetime) -> bool:
    """Complete the attempt, even one that was given up for abandoned; False when it has its answer already."""
    outcomes = {
        Approved: Outcome.APPROVED,
        Declined: Outcome.DECLINED,
        Unavailable: Outcome.UNAVAILABLE,
        OutcomeUnknown: Outcome.UNKNOWN,
        NotFound: Outcome.NOT_FOUND,
    }
    unanswered = Attempt.objects.filter(pk=claim.attempt_id, outcome__in=["", Outcome.ABANDONED])
    matched = unanswered.update(
        outcome=outcomes[type(answer)],
        code=getattr(answer, "decline_code", ""),
        detail=getattr(answer, "detail", ""),
        gateway_reference=getattr(answer, "reference", ""),
        finished_at=now,
    )
    return bool(matched)


def succeed(payment: Payment, answer: Approved, *, now: datetime, **changes: Any) -> None:
    """The charge was made."""
    transitions.move(
        payment,
        Status.SUCCEEDED,
        now=now,
        amount_captured=payment.amount,
        gateway_reference=answer.reference,
        error_code="",
        decline_code="",
        error_detail="",
        **changes,
    )


def decline(payment: Payment, answer: Declined, *, now: datetime) -> None:
    """The gateway said no: final, never retried by itself, never a dead letter."""
    transitions.move(
        payment,
        Status.FAILED,
        now=now,
        holds_order=False,
        gateway_reference=answer.reference,
        error_code="declined",
        decline_code=answer.decline_code,
        error_detail=answer.detail,
    )


def retry_or_give_up(payment: Payment, claim: Claim, answer: Unavailable, *, now: datetime) -> None:
    """Nothing was taken. Try again with the same key, or fail with a dead letter when all retries are used."""
    delays = claim.gateway.retry_delays
    if payment.retries < len(delays):
        delay = delays[payment.retries] * (1 + random.random())  # noqa: S311  # jitter, not a secret
        schedule(
            payment,
            at=now + timedelta(seconds=delay),
            now=now,
            retries=payment.retries + 1,
            error_code="gateway_unavailable",
            error_detail=answer.detail,
        )
    elif may_have_arrived(claim):
        look_up_later(payment, detail=answer.detail, now=now)
    else:
        give_up(payment, answer, now=now)


def may_have_arrived(claim: Claim) -> bool:
    """Whether any charge under this key got another answer than "not taken"."""
    charges = Attempt.objects.filter(payment=claim.request.payment_id, gateway_key=claim.request.key)
    return charges.filter(kind=AttemptKind.CHARGE).exclude(outcome=Outcome.UNAVAILABLE).exists()


def give_up(payment: Payment, answer: Unavailable, *, now: datetime) -> None:
    """Every attempt provably did nothing: the payment fails, and its message is kept for a replay."""
    transitions.move(
        payment, Status.FAILED, now=now, holds_order=False, error_code="retries_exhausted", error_detail=answer.detail
    )
    queue, actor = settings.MESSAGE_ROUTES["payment.due"]
    dead_letters.record(
        queue=queue,
        actor=actor,
        payload={"ids": [str(payment.pk)]},
        cause="retries_exhausted",
        detail=answer.detail,
        attempts=payment.charge_attempts,
        subject=f"payment:{payment.pk}",
        request_id=payment.request_id,
        first_failed_at=payment.attempts.earliest("id").finished_at or now,
        now=now,
    )


def look_up_later(payment: Payment, *, detail: str, now: datetime) -> None:
    """The outcome is unknown, or still is: ask again on the schedule, and at its end ask people."""
    error = {"error_code": "outcome_unknown", "error_detail": detail}
    if payment.status == Status.PROCESSING:
        transitions.move(payment, Status.UNKNOWN, now=now, **error)
    if payment.lookups < len(LOOKUP_DELAYS):
        at = now + LOOKUP_DELAYS[payment.lookups]
        schedule(payment, at=at, now=now, lookups=payment.lookups + 1, **error)
    else:
        log.error("payment_needs_review", payment_id=str(payment.pk), reason="all look-ups proved nothing")
        transitions.flag_for_review(payment, lease_expires_at=None, next_attempt_at=None, revive_at=None, **error)


def send_again_or_wait(payment: Payment, claim: Claim, *, now: datetime, asked_at: float) -> Claim | None:
    """The gateway knows no charge under this key: believe it after the grace period, then send again.

    With the same key, and only as long as the gateway would recognise a first request that arrives after all.
    """
    adapter = claim.gateway.adapter
    sent = Attempt.objects.filter(
        payment=payment, gateway_key=claim.request.key, kind=AttemptKind.CHARGE, finished_at__isnull=False
    ).exclude(outcome=Outcome.UNAVAILABLE)
    times = sent.aggregate(first=Min("started_at"), last=Max("finished_at"))
    believable_at = (times["last"] or now) + adapter.grace_period
    window_ends = (times["first"] or now) + adapter.key_window
    if now < believable_at and times["last"]:
        schedule(payment, at=believable_at, now=now)
        return None
    if now + claim.gateway.lease >= window_ends:
        look_up_later(payment, detail="not found at the gateway, and too late to send again", now=now)
        return None
    return open_attempt(payment, AttemptKind.CHARGE, now=now, asked_at=asked_at)


def schedule(payment: Payment, *, at: datetime, now: datetime, **changes: Any) -> None:
    """Release the lease and see to it that the payment is taken up again at that time."""
    backstop = timedelta(0)
    if at - now <= OUTBOX_HORIZON:
        outbox.stage("payment.due", {"ids": [str(payment.pk)]}, request_id=payment.request_id, available_at=at)
        backstop = timedelta(seconds=settings.REVIVE_AFTER)
    transitions.stay(payment, lease_expires_at=None, next_attempt_at=at, revive_at=at + backstop, **changes)


def settle_late(payment: Payment, claim: Claim, answer: LookupAnswer, *, now: datetime) -> None:
    """An answer to a call whose lease somebody else has taken over. Only an approval adds to what is known."""
    log.warning("late_answer", payment_id=str(payment.pk), answer=type(answer).__name__, status=payment.status)
    if not isinstance(answer, Approved):
        return
    if payment.status in {Status.PROCESSING, Status.UNKNOWN}:
        abandon_open_attempts(payment, now=now)
        succeed(payment, answer, now=now, fence=payment.fence + 1)
    elif payment.gateway_reference != answer.reference:
        record_late_success(payment, answer)


def record_late_success(payment: Payment, answer: Approved) -> None:
    """Money moved for a payment that was closed without it, or moved twice. The state stays; people must decide.

    The order is held again, unless another payment has taken it meanwhile: then a refund is due.
    """
    log.error("payment_needs_review", payment_id=str(payment.pk), reason="late success", reference=answer.reference)
    if payment.status == Status.SUCCEEDED:
        transitions.flag_for_review(payment, error_code="charged_twice", error_detail=answer.reference)
        return
    truth = {"amount_captured": payment.amount, "gateway_reference": answer.reference, "error_code": "late_success"}
    try:
        with transaction.atomic():
            transitions.flag_for_review(payment, holds_order=True, **truth)
    except IntegrityError:
        transitions.flag_for_review(payment, **truth)
