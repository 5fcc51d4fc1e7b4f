"""When a payment is taken up again, and when it no longer is.

A payment in work always has its next time: a retry, a look-up, or the end of what holds its gateway up.
"""

import random
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings

from messaging import dead_letters, outbox
from payments import transitions
from payments.gateways import registry
from payments.gateways.base import OutcomeUnknown, RequestRejected, Unavailable
from payments.models import Payment
from payments.operations import orders
from payments.operations.evidence import may_have_been_taken
from payments.states import Status

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
#: How long (s) a held payment waits for its release, before the rescue has it claimed, and held, again.
HELD_BACKSTOP: Final = 600.0


def take_up(payment: Payment, *, at: datetime, now: datetime, **changes: Any) -> None:
    """Release the lease and see to it that the payment is taken up again at that time."""
    backstop = timedelta(0)
    if at - now <= OUTBOX_HORIZON:
        outbox.stage("payment.due", {"ids": [str(payment.pk)]}, request_id=payment.request_id, available_at=at)
        backstop = timedelta(seconds=settings.REVIVE_AFTER)
    transitions.stay(
        payment, lease_expires_at=None, held_since=None, next_attempt_at=at, revive_at=at + backstop, **changes
    )


def hold(payment: Payment, *, code: str, until: datetime | None, now: datetime) -> None:
    """Let a payment wait for its gateway; the breaker releases it. An unknown outcome keeps that for its error."""
    backstop = now + timedelta(seconds=HELD_BACKSTOP * stretch())
    waiting: dict[str, Any] = {
        "lease_expires_at": None,
        "held_since": now,
        "next_attempt_at": until or backstop,
        "revive_at": backstop,
    }
    if payment.status != Status.UNKNOWN:
        waiting |= {"error_code": code, "error_detail": ""}
    if payment.status == Status.PENDING:
        transitions.move(payment, Status.PROCESSING, now=now, **waiting)
    else:
        transitions.stay(payment, **waiting)


def stretch() -> float:
    """Jitter, upward: what failed together does not come back together."""
    return 1 + random.random()  # noqa: S311  # no secret  # nosec B311


def retry_or_give_up(
    payment: Payment, answer: RequestRejected | Unavailable | OutcomeUnknown, *, now: datetime
) -> None:
    """Nothing was taken. Try again with the same key, or fail with a dead letter when all retries are used."""
    delays = registry.get(payment.gateway).retry_delays
    if payment.retries >= len(delays):
        give_up(payment, code="retries_exhausted", detail=answer.detail, now=now)
        return
    asked_for = answer.retry_after if isinstance(answer, Unavailable) else None
    delay = max(delays[payment.retries] * stretch(), asked_for or 0)
    take_up(
        payment,
        at=now + timedelta(seconds=delay),
        now=now,
        retries=payment.retries + 1,
        error_code="gateway_unavailable",
        error_detail=answer.detail,
    )


def expire(payment: Payment, *, now: datetime) -> None:
    """Too old to be charged: the payer has long stopped waiting, and would be surprised."""
    if payment.status == Status.PENDING:
        transitions.move(payment, Status.PROCESSING, now=now)
    give_up(payment, code="expired", detail="it was not charged in time", now=now)


def give_up(payment: Payment, *, code: str, detail: str, now: datetime) -> None:
    """Every attempt provably did nothing: the payment fails, and its message is kept for a replay.

    Where one attempt may have arrived after all, its outcome is unknown instead.
    """
    if may_have_been_taken(payment):
        look_up_later(payment, detail=detail, now=now)
        return
    orders.fail(payment, now=now, error_code=code, decline_code="", error_detail=detail)
    queue, actor = settings.MESSAGE_ROUTES["payment.due"]
    first = payment.attempts.order_by("id").first()
    dead_letters.record(
        queue=queue,
        actor=actor,
        payload={"ids": [str(payment.pk)]},
        cause=code,
        detail=detail,
        attempts=payment.charge_attempts,
        subject=f"payment:{payment.pk}",
        request_id=payment.request_id,
        first_failed_at=(first and first.finished_at) or now,
        now=now,
    )


def look_up_later(payment: Payment, *, detail: str, now: datetime) -> None:
    """The outcome is unknown, or still is: ask again on the schedule, and at its end ask people."""
    error = {"error_code": "outcome_unknown", "error_detail": detail}
    if payment.status == Status.PROCESSING:
        transitions.move(payment, Status.UNKNOWN, now=now, look_up_first=False, **error)
    if payment.lookups < len(LOOKUP_DELAYS):
        at = now + LOOKUP_DELAYS[payment.lookups]
        take_up(payment, at=at, now=now, lookups=payment.lookups + 1, **error)
    else:
        log.error("payment_needs_review", payment_id=str(payment.pk), reason="all look-ups proved nothing")
        transitions.flag_for_review(
            payment, now=now, lease_expires_at=None, held_since=None, next_attempt_at=None, revive_at=None, **error
        )
