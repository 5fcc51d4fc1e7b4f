"""An order belongs to one payment. A payment that fails lets go of it, and another one may be made."""

from datetime import datetime
from typing import Any

from payments import transitions
from payments.models import Payment
from payments.states import Status


def fail(payment: Payment, *, now: datetime, **changes: Any) -> None:
    """Let a locked payment fail, and its order go: to the payment that has paid it meanwhile, or to whoever comes.

    That one was paid late, after it had failed, and could not have the order then because ours had it.
    """
    transitions.move(payment, Status.FAILED, now=now, holds_order=False, **changes)
    if not payment.order_id:
        return
    paid = Payment.objects.filter(
        merchant=payment.merchant_id, mode=payment.mode, order_id=payment.order_id, amount_captured__gt=0
    )
    # Not waiting: whoever has it locked to record its money finds the order free by himself.
    late = paid.select_for_update(no_key=True, skip_locked=True).order_by("id").first()
    if late is not None:
        transitions.stay(late, holds_order=True)
