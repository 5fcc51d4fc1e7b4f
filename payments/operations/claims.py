"""Step 3: taking hold of payments, each for one call to the gateway.

A claim is committed before any byte is sent: an open Attempt, a lease by the database's clock, and a fence
one higher than before. Whoever finds the lease expired knows that a call may have been made.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection, transaction

from merchants.models import Merchant
from messaging import clock, records
from payments import breaker, transitions
from payments.gateways import registry
from payments.gateways.base import ChargeRequest
from payments.gateways.registry import ConfiguredGateway
from payments.models import Attempt, Payment
from payments.operations import schedule
from payments.states import AttemptKind, Outcome, Status
from payments.transitions import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to make one call; `lease_ends` is on this machine's `messaging.clock`, never too late.

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


COLUMNS: Final = [field.attname for field in Payment._meta.concrete_fields]  # noqa: SLF001  # Django documents it
#: By hand: what Django makes of the same takes it longer than PostgreSQL the statement. Of a merchant only the name is
#: told. A parameter behind a SELECT is one that the plan does not depend on, so that PostgreSQL keeps it.
LOCK: Final = f"""
    SELECT payment.{", payment.".join(COLUMNS)}, merchant.slug, statement_timestamp(), {breaker.IN_TROUBLE}
    FROM payments_payment AS payment
    JOIN merchants_merchant AS merchant ON merchant.id = payment.merchant_id
    WHERE payment.id = ANY((SELECT %s::uuid[])::uuid[])
    ORDER BY payment.id
    FOR NO KEY UPDATE OF payment
"""  # noqa: S608  # put together of our own parts  # nosec B608


def lock_payments(payment_ids: Iterable[UUID], *, skip_locked: bool = False) -> list[Locked]:
    """Lock payments, in the order of their ids, so that two who lock several never wait for each other.

    Without those that do not exist, and with `skip_locked` without those that somebody else has locked. NO KEY leaves
    inserts of events and attempts free.
    """
    assert connection.in_atomic_block, "a lock ends with its transaction"
    with connection.cursor() as cursor:
        cursor.execute(f"{LOCK} SKIP LOCKED" if skip_locked else LOCK, [list(payment_ids)])
        rows = cursor.fetchall()
    merchants: dict[UUID, Merchant] = {}  # a list has few
    return [locked_of(row, merchants) for row in rows]


def locked_of(row: Sequence[Any], merchants: dict[UUID, Merchant]) -> Locked:
    """A row of `LOCK`."""
    *values, slug, now, in_trouble = row
    payment = Payment.from_db(connection.alias, COLUMNS, values)
    payment.metadata = json.loads(payment.metadata)  # which Django asks psycopg to leave as text
    id_ = payment.merchant_id
    payment.merchant = merchants.get(id_) or Merchant.from_db(connection.alias, ["id", "slug"], [id_, slug])
    merchants[id_] = payment.merchant
    return Locked(payment, now, in_trouble)


def lock_payment(payment_id: UUID, *, skip_locked: bool = False) -> Locked | None:
    """`lock_payments` of one; None if there is none, or somebody else has it."""
    return next(iter(lock_payments([payment_id], skip_locked=skip_locked)), None)


@transaction.atomic(durable=True)
def claim_payments(payment_ids: Iterable[UUID]) -> list[Claim]:
    """Claim each of these payments about which the gateway is to be asked something now."""
    asked_at = clock.elapsed_seconds()
    found = lock_payments(payment_ids, skip_locked=True)
    calls = [call for locked in found if (call := prepare(locked)) is not None]
    return open_attempts(calls, asked_at=asked_at)


class Call(NamedTuple):
    """What the gateway is to be asked about a locked payment. `probe`: see `Claim`."""

    payment: Payment
    kind: AttemptKind
    now: datetime
    probe: bool = False


def prepare(locked: Locked) -> Call | None:
    """See what is to be asked about a payment now; None when it is nothing, or not yet."""
    payment, now, in_trouble = locked
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
    return Call(payment, kind, now, admission.probe)


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


def open_attempts(calls: Sequence[Call], *, asked_at: float) -> list[Claim]:
    """Write the claims: for each a new fence, a lease, an open attempt.

    `asked_at` is `messaging.clock` just before the database was asked for the time: however long this process
    was held up since, its idea of a lease ends no later than the database's.
    """
    if not calls:
        return []
    new = [call for call in calls if call.payment.status == Status.PENDING]
    known = [call for call in calls if call.payment.status != Status.PENDING]
    if new:
        transitions.move_all([held(call) for call in new], Status.PROCESSING, now=calls[0].now)
    if known:
        transitions.stay_all([held(call) for call in known])
    attempts = dict(records.insert(Attempt, [attempt_of(call) for call in calls], returning=["payment_id", "id"]))
    return [claim_of(call, attempts[call.payment.pk], asked_at=asked_at) for call in calls]


def attempt_of(call: Call) -> dict[str, Any]:
    """The row of an open attempt."""
    unanswered = dict.fromkeys(("outcome", "code", "detail", "gateway_reference"), "")
    return {
        "payment_id": call.payment.pk,
        "kind": call.kind,
        "gateway_key": call.payment.gateway_key,
        "fence": call.payment.fence,
        "started_at": call.now,
        **unanswered,
    }


def held(call: Call) -> Change:
    """How a payment changes by its claim."""
    payment, lease = call.payment, registry.get(call.payment.gateway).lease
    values: dict[str, Any] = {
        "fence": payment.fence + 1,
        "lease_expires_at": call.now + lease,
        "revive_at": call.now + lease,
        "revivals": 0,
        "next_attempt_at": None,
        "held_since": None,
    }
    if call.kind == AttemptKind.CHARGE:
        values |= {"charge_attempts": payment.charge_attempts + 1, "look_up_first": False}
    return Change(payment, values)


def claim_of(call: Call, attempt_id: int, *, asked_at: float) -> Claim:
    """The claim that an open attempt is."""
    gateway = registry.get(call.payment.gateway)
    return Claim(
        attempt_id=attempt_id,
        kind=call.kind,
        fence=call.payment.fence,
        gateway=gateway,
        request=charge_request(call.payment),
        lease_ends=asked_at + gateway.lease.total_seconds(),
        probe=call.probe,
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
