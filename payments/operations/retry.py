"""Not waiting for the schedule: a retry or a look-up brought forward. It burns nothing and skips no guard."""

from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction

from merchants import audit
from merchants.audit import Who
from payments.models import Payment
from payments.operations import schedule
from payments.operations.claims import lock_payment
from payments.states import Status

log = structlog.get_logger(__name__)


@transaction.atomic(durable=True)
def retry_now(*, payment_id: UUID, who: Who, reason: str = "") -> bool:
    """Have a payment taken up now instead of at its next time.

    False where nothing waits: it is final, a call is under way, it is queued already, or somebody has it in hand
    this very moment. A paused gateway and an open breaker are respected.
    """
    found = lock_payment(payment_id, skip_locked=True)
    due_at = found and found.payment.next_attempt_at
    brought = found is not None and bring_forward(found.payment, now=found.now)
    if found is not None and brought:
        audit.record(
            who,
            "payment.taken_up_now",
            subject=f"payment:{payment_id}",
            merchant=found.payment.merchant,
            reason=reason,
            before={"next_attempt_at": due_at},
            after={"next_attempt_at": found.payment.next_attempt_at},
        )
    log.info("retry_now", payment_id=str(payment_id), by=who.actor, brought_forward=brought)
    return brought


@transaction.atomic(durable=True)
def look_up_now(*, payment_id: UUID) -> None:
    """Bring the look-up of a payment with an unknown outcome forward, as when the gateway lists its charge.

    A payment in any other state is left alone: its next call would be a charge.
    """
    found = lock_payment(payment_id, skip_locked=True)
    if found is not None and found.payment.status == Status.UNKNOWN:
        brought = bring_forward(found.payment, now=found.now)
        log.info("look_up_now", payment_id=str(payment_id), brought_forward=brought)


def bring_forward(payment: Payment, *, now: datetime) -> bool:
    """Let a locked payment that waits for its retry or look-up be taken up now; False if it does not wait."""
    if payment.status not in {Status.PROCESSING, Status.UNKNOWN} or payment.lease_expires_at is not None:
        return False
    # The call counts when it proves nothing; that it came early shall not shorten the schedule.
    counts = {"retries": payment.retries, "lookups": payment.lookups}
    count = "retries" if payment.status == Status.PROCESSING else "lookups"
    schedule.take_up(payment, at=now, now=now, **{count: max(counts[count] - 1, 0)})
    return True
