"""The refund of an unmatched charge: claim, call, settle; the call is made outside of any transaction.

| earlier calls under the key | the gateway is asked for | and answers | then |
|---|---|---|---|
| none | the refund | refunded | `refunded` |
| none | the refund | refused | `open`, with the reason; the next decision uses a new key |
| none | the refund | not taken, or unknown | again later, the look-up first |
| some | the look-up | refunded | `refunded` |
| some | the look-up | unknown | again later |
| some | the look-up | not found, within the key window | the refund is sent again, with the same key |
| some | the look-up | not found, past the key window | `open`: nothing was refunded |
| some | the refund | refused | the look-up decides: refunded, or `open` |
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction
from django.db.models.functions import Now

from messaging.failpoints import failpoint
from payments import breaker
from payments.gateways import loop, registry
from payments.gateways.base import (
    NotFound,
    OutcomeUnknown,
    RefundAnswer,
    Refunded,
    RefundLookupAnswer,
    RefundRefused,
    RefundRequest,
    Unavailable,
)
from payments.gateways.registry import ConfiguredGateway
from payments.models import UnmatchedCharge
from payments.operations.database_clock import database_time
from payments.unmatched_charge import State

log = structlog.get_logger(__name__)

#: Seconds from a call that proved nothing to the next one; the last one repeats.
RETRY_DELAYS_SECONDS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0)
#: Seconds until a refund is tried again whose gateway is paused or whose breaker is open.
HELD_DELAY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundClaim:
    """The right to make the calls of one attempt; `attempt` fences it."""

    charge_id: int
    attempt: int
    gateway: ConfiguredGateway
    request: RefundRequest
    may_send: bool


#: What an attempt found out; None: nothing yet.
Finding = Refunded | RefundRefused | None


def refund_unmatched_charge(*, charge_id: int) -> None:
    """Bring the refund of one charge as far as it can go now. Harmless at any time and any number of times."""
    claim = _claim(charge_id)
    if claim is None:
        return
    failpoint("refund.claimed")
    finding, detail = _run(claim)
    failpoint("refund.answered")
    _settle(claim, finding, detail)


@transaction.atomic(durable=True)
def _claim(charge_id: int) -> RefundClaim | None:
    """Claim the next attempt of a refund that is due; None where none is, or its gateway may not be called."""
    due = UnmatchedCharge.objects.select_for_update(skip_locked=True, no_key=True).filter(
        pk=charge_id, state=State.REFUNDING, next_attempt_at__lte=Now()
    )
    if (charge := due.first()) is None:
        return None
    gateway, now = registry.get(charge.gateway), database_time()
    if charge.gateway in breaker.troubles(now=now):
        _schedule(charge, at=now + timedelta(seconds=HELD_DELAY_SECONDS))
        return None
    charge.refund_attempts += 1
    charge.refund_sent_at = charge.refund_sent_at or now
    _schedule(charge, at=now + gateway.lease)
    return RefundClaim(
        charge_id=charge.pk,
        attempt=charge.refund_attempts,
        gateway=gateway,
        request=RefundRequest(
            key=charge.refund_key,
            reference=charge.reference,
            amount=charge.amount,
            currency=charge.currency,
            request_id=charge.refund_key,
        ),
        may_send=now + gateway.lease < charge.refund_sent_at + gateway.adapter.key_window,
    )


def _schedule(charge: UnmatchedCharge, *, at: datetime) -> None:
    """Write when a locked refund may be called next; the periodic job queues it then."""
    charge.next_attempt_at = charge.stuck_check_at = at
    charge.save(update_fields=["refund_attempts", "refund_sent_at", "next_attempt_at", "stuck_check_at"])


def _run(claim: RefundClaim) -> tuple[Finding, str]:
    """Make the calls of one attempt on the gateways' loop, and wait for what they find out."""
    assert not transaction.get_connection().in_atomic_block, "no network inside a transaction"
    calling = asyncio.run_coroutine_threadsafe(_call(claim), loop.shared_loop())
    return calling.result()


async def _call(claim: RefundClaim) -> tuple[Finding, str]:
    """Make the calls when there is room, within the lease even for an adapter that breaks its promise."""
    async with loop.room, asyncio.timeout(claim.gateway.lease.total_seconds()):
        return await _decide(claim)


async def _decide(claim: RefundClaim) -> tuple[Finding, str]:
    """Follow the table above; the text says why nothing was found out."""
    if claim.attempt > 1:
        earlier = await _look_up(claim)
        if not isinstance(earlier, NotFound):
            return _finding_of(earlier)
        if not claim.may_send:
            return RefundRefused(code="not_made", detail="The gateway made no refund within its key window."), ""
    answer = await _send(claim)
    if isinstance(answer, RefundRefused) and claim.attempt > 1:
        # An earlier request may have been taken meanwhile, and be the very reason for the refusal.
        decisive = await _look_up(claim)
        return (answer, "") if isinstance(decisive, NotFound) else _finding_of(decisive)
    return _finding_of(answer)


async def _look_up(claim: RefundClaim) -> RefundLookupAnswer:
    # Two look-ups and the refund end within one lease, which is at least two deadlines.
    return await claim.gateway.adapter.look_up_refund(claim.request, deadline=claim.gateway.deadline / 3)


async def _send(claim: RefundClaim) -> RefundAnswer:
    return await claim.gateway.adapter.refund_charge(claim.request, deadline=claim.gateway.deadline)


def _finding_of(answer: RefundAnswer | RefundLookupAnswer) -> tuple[Finding, str]:
    match answer:
        case Refunded() | RefundRefused():
            return answer, ""
        case Unavailable() | OutcomeUnknown():
            return None, answer.detail
    return None, "not found"


@transaction.atomic(durable=True)
def _settle(claim: RefundClaim, finding: Finding, detail: str) -> None:
    """Write what the attempt found out, unless a later attempt has begun."""
    held = UnmatchedCharge.objects.select_for_update(no_key=True).filter(
        pk=claim.charge_id, state=State.REFUNDING, refund_attempts=claim.attempt
    )
    if (charge := held.first()) is None:
        log.warning("late_refund_answer", id=claim.charge_id, finding=type(finding).__name__)
        return
    match finding:
        case Refunded(reference=reference):
            _finish(charge, reference)
        case RefundRefused(code=code, detail=why):
            _reopen(charge, f"{code}: {why}"[:500])
        case None:
            delay = timedelta(seconds=RETRY_DELAYS_SECONDS[min(claim.attempt, len(RETRY_DELAYS_SECONDS)) - 1])
            # A look-up counts only after the grace period.
            delay = max(delay, claim.gateway.adapter.grace_period)
            charge.next_attempt_at = charge.stuck_check_at = Now() + delay
            charge.error_detail = detail[:500]
            charge.save(update_fields=["next_attempt_at", "stuck_check_at", "error_detail"])
            log.warning("refund_undecided", id=charge.pk, attempt=claim.attempt, detail=detail)


def _finish(charge: UnmatchedCharge, reference: str) -> None:
    """The money was returned."""
    charge.state, charge.refund_reference, charge.error_detail = State.REFUNDED, reference, ""
    charge.next_attempt_at = charge.stuck_check_at = None
    charge.resolved_at = Now()
    charge.save(
        update_fields=[
            *("state", "refund_reference", "error_detail", "next_attempt_at", "stuck_check_at", "resolved_at"),
        ]
    )
    log.info("unmatched_charge_refunded", id=charge.pk, reference=charge.reference, refund=reference)


def _reopen(charge: UnmatchedCharge, why: str) -> None:
    """The gateway refused: staff decide again, and the next refund has a key of its own."""
    charge.state, charge.error_detail = State.OPEN, why
    charge.next_attempt_at = charge.stuck_check_at = None
    charge.refund_number += 1
    charge.resolved_by = charge.resolution_reason = ""
    charge.save(
        update_fields=[
            *("state", "error_detail", "next_attempt_at", "stuck_check_at", "refund_number"),
            *("resolved_by", "resolution_reason"),
        ]
    )
    log.error("unmatched_charge_refund_refused", id=charge.pk, reference=charge.reference, detail=why)
