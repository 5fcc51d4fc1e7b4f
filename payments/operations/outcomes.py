"""What proof does to a payment, by whatever way it comes: by its call, after its lease, or by the gateway's webhook."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog
from django.db import IntegrityError, transaction

from payments import transitions, velocity
from payments.gateways.base import Approved, ConflictingCharge, Declined, LookupAnswer, RequestRejected
from payments.models import Payment
from payments.operations import orders
from payments.operations.claims import Claim, abandon_open_attempts
from payments.operations.unmatched_charges import ChargeFacts, record_unless_matched, second_charge_of
from payments.states import IN_WORK, Status
from payments.transitions import Change
from payments.unmatched_charge import Source

log = structlog.get_logger(__name__)


def succeed_all(approved: Iterable[tuple[Payment, Approved]], *, now: datetime, **values: Any) -> None:
    """The charges of locked payments were made."""
    changes = [
        Change(
            payment,
            {
                "amount_captured": payment.amount,
                "gateway_reference": answer.reference,
                "error_code": "",
                "decline_code": "",
                "error_detail": "",
                **values,
            },
        )
        for payment, answer in approved
    ]
    if changes:
        transitions.move_all(changes, Status.SUCCEEDED, now=now)


def decline(payment: Payment, answer: Declined, *, now: datetime) -> None:
    """The gateway said no: final, never retried by itself, never a dead letter."""
    orders.fail(
        payment,
        now=now,
        gateway_reference=answer.reference,
        error_code="declined",
        decline_code=answer.decline_code,
        error_detail=answer.detail,
    )
    velocity.count_decline(payment, now=now)


def reject(payment: Payment, answer: RequestRejected, *, now: datetime) -> None:
    """Fail a locked payment whose request the gateway refused as invalid. Not a decline: no card was refused."""
    orders.fail(payment, now=now, error_code="request_rejected", decline_code=answer.code, error_detail=answer.detail)


def flag_conflict(payment: Payment, charge: ConflictingCharge, *, now: datetime) -> None:
    """Flag a locked payment for review, once: the gateway holds another charge under its key."""
    log.error("gateway_charge_conflicts", payment_id=str(payment.pk), reference=charge.reference)
    if not payment.needs_review:
        transitions.flag_for_review(payment, now=now)
    facts = ChargeFacts(
        gateway=payment.gateway,
        reference=charge.reference,
        amount=charge.amount,
        currency=charge.currency,
        gateway_key=payment.gateway_key,
        gateway_payment_id=charge.payment_id,
        merchant_slug=payment.merchant.slug,
        order_id=payment.order_id,
    )
    record_unless_matched(facts, payment, source=Source.LOOK_UP)


def record_lost_payment(claim: Claim, approval: Approved) -> None:
    """Record the charge of a payment that does not exist any more: a failover has lost it during the call."""
    request = claim.request
    log.error("payment_lost", payment_id=str(request.payment_id), reference=approval.reference)
    facts = ChargeFacts(
        gateway=claim.gateway.name,
        reference=approval.reference,
        amount=request.amount,
        currency=request.currency,
        gateway_key=request.key,
        gateway_payment_id=str(request.payment_id),
        merchant_slug=request.merchant,
        order_id=request.order_id,
    )
    record_unless_matched(facts, None, source=Source.LOOK_UP)


def learn(payment: Payment, answer: LookupAnswer, *, now: datetime) -> bool:
    """Take up news of a locked payment that came by another way than its claim. Only an approval adds to it.

    True if it did.
    """
    if not isinstance(answer, Approved):
        return False
    if payment.status in {*IN_WORK, Status.UNKNOWN}:
        abandon_open_attempts(payment, now=now)
        if payment.status == Status.PENDING:
            transitions.move(payment, Status.PROCESSING, now=now)
        succeed_all([(payment, answer)], now=now, fence=payment.fence + 1)
        return True
    if payment.amount_captured and answer.reference in {payment.gateway_reference, payment.error_detail}:
        return False
    record_late_success(payment, answer, now=now)
    return True


def record_late_success(payment: Payment, answer: Approved, *, now: datetime) -> None:
    """Money moved for a payment that was closed without it, or moved twice. The state stays; people must decide.

    The order is held again, unless another payment has taken it meanwhile: then a refund is due.
    """
    log.error("payment_needs_review", payment_id=str(payment.pk), reason="late success", reference=answer.reference)
    if payment.amount_captured:
        transitions.flag_for_review(payment, now=now, error_code="charged_twice", error_detail=answer.reference)
        record_unless_matched(second_charge_of(payment, answer.reference), payment, source=Source.LOOK_UP)
        return
    truth = {
        "amount_captured": payment.amount,
        "gateway_reference": answer.reference,
        "error_code": "late_success",
        "decline_code": "",
        "error_detail": "",
    }
    try:
        with transaction.atomic():
            transitions.flag_for_review(payment, now=now, holds_order=True, **truth)
    except IntegrityError:
        transitions.flag_for_review(payment, now=now, **truth)
