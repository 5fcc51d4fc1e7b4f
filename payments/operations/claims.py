"""Step 3: taking hold of a payment, for one call to the gateway.

A claim is committed before any byte is sent: an open Attempt, a lease by the database's clock, and a fence
one higher than before. Whoever finds the lease expired knows that a call may have been made.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from payments import breaker, transitions
from payments.gateways import registry
from payments.gateways.base import ChargeRequest
from payments.gateways.registry import ConfiguredGateway
from payments.models import Attempt, Payment
from payments.operations import schedule
from payments.states import AttemptKind, Outcome, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to make one call; `lease_ends` is on this machine's monotonic clock, never too late.

    `probe`: the breaker is half open, and this call decides whether it closes.
    """

    attempt_id: int
    kind: AttemptKind
    fence: int
    gateway: ConfiguredGateway
    request: ChargeRequest
    lease_ends: float
    probe: bool = False


class Locked(NamedTuple):
    """A payment, locked against all other writers, with the database's time and how its gateway does."""

    payment: Payment
    now: datetime
    gateway_in_trouble: bool


def lock_payment(payment_id: UUID, *, skip_locked: bool = False) -> Locked | None:
    """Lock a payment.

    None if there is none, or if somebody else holds the lock and `skip_locked` is set. NO KEY leaves
    inserts of events and attempts free.
    """
    payment = (
        Payment.objects.select_related("merchant")
        .select_for_update(no_key=True, skip_locked=skip_locked, of=("self",))
        .annotate(database_now=Now(), gateway_in_trouble=breaker.in_trouble())
        .filter(pk=payment_id)
        .first()
    )
    return Locked(payment, payment.database_now, payment.gateway_in_trouble) if payment is not None else None


@transaction.atomic(durable=True)
def claim_payment(payment_id: UUID) -> Claim | None:
    """Claim a payment for whatever is to be asked about it now; None when nothing is."""
    asked_at = time.monotonic()
    found = lock_payment(payment_id, skip_locked=True)
    if found is None:
        return None
    payment, now, in_trouble = found
    kind = next_call(payment, now=now)
    if kind is None:
        return None
    if payment.lease_expires_at is not None:
        abandon_open_attempts(payment, now=now)
        if payment.status == Status.PROCESSING and not payment.look_up_first:
            transitions.move(payment, Status.UNKNOWN, now=now, error_code="outcome_unknown", error_detail="")
    if kind == AttemptKind.CHARGE and is_too_old(payment, now=now):
        schedule.expire(payment, now=now)
        return None
    admission = breaker.FREE
    if in_trouble:
        admission = breaker.admit(payment.gateway, lease=registry.get(payment.gateway).lease, now=now)
    if not admission.admitted:
        schedule.hold(payment, code=admission.code, until=admission.until, now=now)
        return None
    return open_attempt(payment, kind, now=now, asked_at=asked_at, probe=admission.probe)


def next_call(payment: Payment, *, now: datetime) -> AttemptKind | None:
    """What the gateway is to be asked about a locked payment now, if anything.

    An expired lease means that a call may have been made: look first, never send again. So does a replay.
    """
    charge = AttemptKind.LOOKUP if payment.look_up_first else AttemptKind.CHARGE
    if payment.status == Status.PENDING:
        return charge
    if payment.status not in {Status.PROCESSING, Status.UNKNOWN}:
        return None
    if payment.lease_expires_at is not None:
        return AttemptKind.LOOKUP if payment.lease_expires_at <= now else None
    if payment.next_attempt_at is None or payment.next_attempt_at > now:
        return None
    return charge if payment.status == Status.PROCESSING else AttemptKind.LOOKUP


def is_too_old(payment: Payment, *, now: datetime) -> bool:
    """Whether no charge may be begun for the payment any more."""
    return payment.charge_before is not None and payment.charge_before <= now


def open_attempt(payment: Payment, kind: AttemptKind, *, now: datetime, asked_at: float, probe: bool = False) -> Claim:
    """Write the claim: a new fence, a lease, an open attempt.

    `asked_at` is our monotonic clock just before the database was asked for `now`: however long this process
    was held up since, its idea of the lease ends no later than the database's.
    """
    gateway = registry.get(payment.gateway)
    changes: dict[str, Any] = {
        "fence": payment.fence + 1,
        "lease_expires_at": now + gateway.lease,
        "revive_at": now + gateway.lease,
        "revivals": 0,
        "next_attempt_at": None,
        "held_since": None,
    }
    if kind == AttemptKind.CHARGE:
        changes |= {"charge_attempts": payment.charge_attempts + 1, "look_up_first": False}
    if payment.status == Status.PENDING:
        transitions.move(payment, Status.PROCESSING, now=now, **changes)
    else:
        transitions.stay(payment, **changes)
    request = charge_request(payment)
    attempt = Attempt.objects.create(
        payment=payment, kind=kind, gateway_key=request.key, fence=payment.fence, started_at=now
    )
    return Claim(
        attempt_id=attempt.pk,
        kind=kind,
        fence=payment.fence,
        gateway=gateway,
        request=request,
        lease_ends=asked_at + gateway.lease.total_seconds(),
        probe=probe,
    )


def charge_request(payment: Payment) -> ChargeRequest:
    """What the gateway is asked; the key stays the same for every call about one charge."""
    return ChargeRequest(
        key=payment.gateway_key,
        payment_id=payment.pk,
        merchant=payment.merchant.slug,
        order_id=payment.order_id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method=payment.payment_method,
        request_id=payment.request_id,
    )


def abandon_open_attempts(payment: Payment, *, now: datetime) -> None:
    """Close attempts whose worker has not come back. Should it come back, its answer is still recorded."""
    payment.attempts.filter(finished_at=None).update(outcome=Outcome.ABANDONED, finished_at=now)
