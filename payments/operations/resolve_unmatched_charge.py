"""Staff decide about an unmatched charge: adopt it, refund it, or dismiss it."""

import re
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from merchants import audit
from merchants.audit import Who
from merchants.models import Merchant, Mode
from messaging import outbox
from payments import transitions
from payments.errors import AdoptionRefused, UnmatchedChargeAwaited, UnmatchedChargeResolved
from payments.gateways.base import Approved
from payments.ids import uuid7_at
from payments.models import Payment, UnmatchedCharge
from payments.money import EXPONENTS, to_major_units
from payments.operations import outcomes
from payments.operations.claims import lock_payment
from payments.operations.database_clock import database_time
from payments.operations.unmatched_charges import ChargeFacts, difference_of, payment_with_charge
from payments.states import IN_WORK, Status
from payments.unmatched_charge import Reason, State

log = structlog.get_logger(__name__)

#: States in which a payment may still take a charge that was made under its key.
MAY_TAKE: Final = sorted({*IN_WORK, Status.UNKNOWN})
#: The audit entry of a refund, with its `sums`: what a person decided alone is counted by it.
REFUND_REQUESTED: Final = "unmatched_charge.refund_requested"
#: As wide as the column of payments.
MAX_KEY_BASE_LENGTH: Final = 64
KEY_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")
#: What the beginning of a refund writes.
REFUND_COLUMNS: Final = (
    *("state", "error_detail", "resolved_by", "resolution_reason"),
    *("refund_attempts", "refund_sent_at", "next_attempt_at", "stuck_check_at"),
)


def adopt_charge(*, charge_id: int, who: Who, reason: str) -> Payment:
    """Let a payment account for the charge: create it, succeeded, or give the charge to the one that failed.

    Raises:
        UnmatchedCharge.DoesNotExist: there is none.
        UnmatchedChargeResolved, UnmatchedChargeAwaited, AdoptionRefused: see there; nothing was done.
    """
    with transaction.atomic(durable=True):
        charge = lock_open(charge_id)
        now = database_time()
        if charge.reason == Reason.PAYMENT_NOT_CHARGED:
            payment = _take_late(charge, now=now)
        else:
            payment = _create_payment(charge, request_id=who.request_id, now=now)
        _resolve(charge, State.ADOPTED, who=who, reason=reason, payment=payment)
    return payment


def dismiss_charge(*, charge_id: int, who: Who, reason: str) -> None:
    """Close the review without moving money, as when the charge is settled outside of this system.

    Raises:
        UnmatchedCharge.DoesNotExist: there is none. UnmatchedChargeResolved: see there; nothing was done.
    """
    with transaction.atomic(durable=True):
        _resolve(lock_open(charge_id), State.DISMISSED, who=who, reason=reason)


def begin_refund(*, charge_id: int, who: Who, reason: str, approval: str = "") -> UnmatchedCharge:
    """Decide that the charge is refunded, in the caller's transaction. A worker makes the call after the commit.

    Raises:
        UnmatchedCharge.DoesNotExist: there is none.
        UnmatchedChargeResolved, UnmatchedChargeAwaited: see there; nothing was done.
    """
    assert connection.in_atomic_block, "the decision and its message are one commit"
    charge = lock_open(charge_id)
    charge.state, charge.error_detail = State.REFUNDING, ""
    charge.resolved_by, charge.resolution_reason = who.name[:150], reason
    charge.refund_attempts, charge.refund_sent_at = 0, None
    charge.next_attempt_at = Now()
    charge.stuck_check_at = Now() + timedelta(seconds=settings.REVIVE_AFTER)
    charge.save(update_fields=REFUND_COLUMNS)
    outbox.stage("unmatched_charge.refund_due", {"ids": [charge.pk]}, request_id=who.request_id)
    extra = {"sums": sums_of(charge), **({"approval": approval} if approval else {})}
    _audit(charge, REFUND_REQUESTED.rpartition(".")[2], State.REFUNDING, who=who, reason=reason, **extra)
    return charge


def sums_of(charge: UnmatchedCharge) -> dict[str, str]:
    """Return currency -> amount in major units; of an unknown currency in its minor units."""
    known = charge.currency in EXPONENTS
    return {charge.currency: to_major_units(charge.amount, charge.currency) if known else str(charge.amount)}


def lock_open(charge_id: int) -> UnmatchedCharge:
    """Return the charge, locked and open, with no payment that has it or may still take it."""
    charge = UnmatchedCharge.objects.select_for_update(no_key=True).get(pk=charge_id)
    if charge.state != State.OPEN:
        raise UnmatchedChargeResolved
    if _has_its_payment(charge):
        raise UnmatchedChargeResolved
    if (awaiting := _payment_under_way(charge)) is not None:
        raise UnmatchedChargeAwaited(awaiting)
    return charge


def _has_its_payment(charge: UnmatchedCharge) -> bool:
    """Whether a payment has taken the charge; the periodic job closes the review."""
    payment = payment_with_charge(charge.gateway, charge.reference)
    terms = payment and (payment.amount_captured, payment.currency)
    return terms == (charge.amount, charge.currency)


def _payment_under_way(charge: UnmatchedCharge) -> UUID | None:
    """Return a payment that the gateway may still answer with this charge: of its terms, and its id, key or order."""
    terms = {"gateway": charge.gateway, "amount": charge.amount, "currency": charge.currency}
    may_take = Payment.objects.filter(status__in=MAY_TAKE, **terms).values_list("pk", flat=True)
    base, _ = key_parts_of(charge)
    # One query for each, by its own index: of payments in work, only few rows are in the index of the rescue.
    same = [
        Q(pk=_uuid_of(charge)),
        Q(gateway_key_base=base, revive_at__isnull=False) & ~Q(gateway_key_base=""),
        Q(merchant=_merchant_of(charge), mode=mode_of(charge), order_id=charge.order_id) & ~Q(order_id=""),
    ]
    return next((found for one in same if (found := may_take.filter(one).first()) is not None), None)


def _take_late(charge: UnmatchedCharge, *, now: datetime) -> Payment:
    """Give the charge to its own payment, which ended without it, as a late success."""
    payment_id = _uuid_of(charge)
    found = lock_payment(payment_id) if payment_id else None
    if found is None or difference_of(facts_of(charge), found.payment) != Reason.PAYMENT_NOT_CHARGED:
        raise AdoptionRefused("The payment that the gateway names is not as it was when the charge was found.")
    outcomes.record_late_success(found.payment, Approved(reference=charge.reference), now=now)
    return found.payment


def _create_payment(charge: UnmatchedCharge, *, request_id: str, now: datetime) -> Payment:
    """Create the payment that the database has forgotten, and move it to `succeeded` with the charge as its proof."""
    if charge.reason != Reason.NO_PAYMENT:
        raise AdoptionRefused("A payment of this id exists, and does not account for the charge.")
    payment = _payment_of(charge, request_id=request_id, now=now)
    _refuse_taken_order(payment)
    try:
        with transaction.atomic():
            transitions.create(payment, now=now)
    except IntegrityError:
        raise AdoptionRefused("Another payment has this order or this id.") from None
    transitions.move(payment, Status.PROCESSING, now=now)
    outcomes.succeed_all([(payment, Approved(reference=charge.reference))], now=now)
    return payment


def _payment_of(charge: UnmatchedCharge, *, request_id: str, now: datetime) -> Payment:
    """Build the payment. It has the id that the gateway names, so that the client's GET finds it again."""
    merchant = _merchant_of(charge)
    if merchant is None:
        raise AdoptionRefused(f"There is no merchant {charge.merchant_slug!r}.")
    if charge.currency not in EXPONENTS:
        raise AdoptionRefused(f"The currency {charge.currency!r} is unknown.")
    created_at = min(charge.charged_at or now, now)
    named = _uuid_of(charge)
    is_free = named is not None and named.version == 7 and not Payment.objects.filter(pk=named).exists()
    base, key_number = key_parts_of(charge)
    return Payment(
        id=named if is_free else uuid7_at(created_at),
        merchant=merchant,
        mode=mode_of(charge),
        gateway=charge.gateway,
        gateway_key_base=base,
        key_number=key_number,
        amount=charge.amount,
        currency=charge.currency,
        order_id=charge.order_id,
        request_id=request_id,
        created_at=created_at,
    )


def _refuse_taken_order(payment: Payment) -> None:
    """Raise AdoptionRefused where another payment holds the order."""
    if not payment.order_id:
        return
    holders = Payment.objects.filter(
        merchant=payment.merchant, mode=payment.mode, order_id=payment.order_id, holds_order=True
    )
    if (holder := holders.values_list("pk", flat=True).first()) is not None:
        raise AdoptionRefused(f"Payment {holder} has the order {payment.order_id!r}.")


def _resolve(charge: UnmatchedCharge, state: State, *, who: Who, reason: str, payment: Payment | None = None) -> None:
    """Close a locked review."""
    charge.state, charge.payment = state, payment
    charge.resolved_by, charge.resolution_reason, charge.resolved_at = who.name[:150], reason, Now()
    charge.save(update_fields=["state", "payment", "resolved_by", "resolution_reason", "resolved_at"])
    extra = {"payment_id": str(payment.pk)} if payment else {}
    _audit(charge, state.value, state, who=who, reason=reason, **extra)


def _audit(charge: UnmatchedCharge, done: str, state: State, *, who: Who, reason: str, **after: Any) -> None:
    """Write the audit entry of a decision."""
    audit.record(
        who,
        f"unmatched_charge.{done}",
        subject=f"unmatched_charge:{charge.pk}",
        merchant=_merchant_of(charge),
        reason=reason,
        before={"state": State.OPEN.value},
        after={"state": state.value, **after},
    )
    log.info("unmatched_charge_decided", id=charge.pk, reference=charge.reference, state=state.value, by=who.actor)


def facts_of(charge: UnmatchedCharge) -> ChargeFacts:
    """Return what the gateway stated."""
    return ChargeFacts(**{name: getattr(charge, name) for name in ChargeFacts.__dataclass_fields__})


def key_parts_of(charge: UnmatchedCharge) -> tuple[str, int]:
    """Return the base and the number of the gateway key, as `Payment.gateway_key` joins them; "" where it is none."""
    base, _, number = charge.gateway_key.rpartition(":charge:")
    if not base.startswith("pay_") or len(base) > MAX_KEY_BASE_LENGTH or not KEY_NUMBER.fullmatch(number):
        return "", 1
    return base, int(number)


def _merchant_of(charge: UnmatchedCharge) -> Merchant | None:
    """Return the merchant that the gateway names, if there is one."""
    return Merchant.objects.filter(slug=charge.merchant_slug).first() if charge.merchant_slug else None


def mode_of(charge: UnmatchedCharge) -> Mode:
    """Return whose money it is, by the gateway's setting."""
    return Mode(settings.GATEWAYS[charge.gateway]["MODE"])


def _uuid_of(charge: UnmatchedCharge) -> UUID | None:
    """Return the payment id that the gateway names, if it is one."""
    try:
        return UUID(charge.gateway_payment_id)
    except ValueError:
        return None
