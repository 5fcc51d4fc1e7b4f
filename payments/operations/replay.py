"""Back from the dead: a failed payment is tried again because people say so.

What the gateway knows of its key is asked first, always: a charge may have arrived after all. So the payment goes
back to `pending` with `look_up_first`, and the claim asks before it charges.
"""

import time
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction

from messaging.judgements import Judgement, Verdict
from payments import transitions
from payments.gateways import registry
from payments.models import Payment
from payments.operations.accept import breaks_order_rule
from payments.operations.claims import Locked, lock_payment
from payments.operations.retry import bring_forward
from payments.states import Status

log = structlog.get_logger(__name__)

#: Failures that a replay may mend. A decline is the gateway's answer, and a late success has been paid.
REPLAYABLE = frozenset({"retries_exhausted", "expired"})
#: How often a locked payment is asked for, and the pause between (s): a message that comes twice has it for an instant.
TRIES: Final = 10
PAUSE: Final = 0.02
UNDER_WAY = "its order has another payment under way"
PAID_OTHERWISE = "its order has been paid by another payment"
IN_HAND = "somebody has it in hand this very moment; try again"


def send_back(*, payment_id: UUID) -> Judgement:
    """Make a payment ready for the message of its dead letter, in the transaction that sends that out.

    A failed one becomes `pending`. One that is in work stays as it is, and no longer waits for its next time: its
    message would find that nothing is due.
    """
    assert transaction.get_connection().in_atomic_block, "a payment goes back in the transaction of its message"
    found = lock_patiently(payment_id)
    if found is None:
        return Judgement(Verdict.BLOCKED, IN_HAND)
    payment, now, _ = found
    judgement = judge(payment)
    if judgement.verdict != Verdict.GOES:
        return judgement
    if payment.status != Status.FAILED:
        bring_forward(payment, now=now)
        return judgement
    if is_paid_otherwise(payment):
        return Judgement(Verdict.SETTLED, PAID_OTHERWISE)
    try:
        with transaction.atomic():
            revive(payment, now=now)
    except IntegrityError as error:
        if not breaks_order_rule(error):
            raise
        paid = is_paid_otherwise(payment)  # by now; a moment ago it was not
        return Judgement(Verdict.SETTLED, PAID_OTHERWISE) if paid else Judgement(Verdict.BLOCKED, UNDER_WAY)
    return judgement


def lock_patiently(payment_id: UUID) -> Locked | None:
    """Lock a payment; None if somebody else goes on holding it.

    Not by waiting for the lock: whoever holds it may be about to write to the dead letter that our caller holds.
    """
    for _ in range(TRIES):
        if (found := lock_payment(payment_id, skip_locked=True)) is not None:
            return found
        time.sleep(PAUSE)
    return None


def judge(payment: Payment) -> Judgement:
    """Whether the message of a payment's dead letter may go out again, but for what its order says."""
    if payment.amount_captured or payment.status in {Status.SUCCEEDED, Status.CANCELED}:
        late = ", and was paid late" if payment.status != Status.SUCCEEDED and payment.amount_captured else ""
        return Judgement(Verdict.SETTLED, f"the payment is {payment.status}{late}")
    if payment.status == Status.FAILED and payment.error_code not in REPLAYABLE:
        return Judgement(Verdict.SETTLED, f"the payment has failed otherwise since: {payment.error_code}")
    if payment.status == Status.FAILED:
        order = f"{payment.merchant_id} {payment.mode} {payment.order_id}" if payment.order_id else ""
        return Judgement(Verdict.GOES, "", payment.amount, payment.currency, takes=order)
    return Judgement(Verdict.GOES, "the payment is still in work and is taken up now")


def is_paid_otherwise(payment: Payment) -> bool:
    """Whether another payment of the same order has taken money.

    That one need not hold the order: where it was paid late, yet another may have had it then, and have died since.
    """
    others = Payment.objects.filter(merchant=payment.merchant_id, mode=payment.mode, order_id=payment.order_id)
    return bool(payment.order_id) and others.exclude(pk=payment.pk).filter(amount_captured__gt=0).exists()


def revive(payment: Payment, *, now: datetime) -> None:
    """Back to `pending`, with all its retries before it. The gateway key stays until the gateway was asked about it."""
    gateway = registry.get(payment.gateway)
    transitions.move(
        payment,
        Status.PENDING,
        now=now,
        holds_order=True,
        look_up_first=payment.fence > 0,
        retries=0,
        lookups=0,
        revivals=0,
        finished_at=None,
        revive_at=now + timedelta(seconds=settings.REVIVE_AFTER),
        charge_before=now + gateway.max_age,
        error_code="",
        decline_code="",
        error_detail="",
    )
    log.info("payment_replayed", payment_id=str(payment.pk))
