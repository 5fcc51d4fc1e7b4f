"""Refunds of unmatched charges above the approval threshold are requested by one person and approved by another."""

from typing import Final

from django.db import transaction

from merchants import approvals
from merchants.approval_threshold import needs_second_approver
from merchants.audit import Who
from merchants.models import Approval
from messaging import resolutions
from payments.errors import UnmatchedChargeResolved
from payments.models import UnmatchedCharge
from payments.operations.resolve_unmatched_charge import REFUND_REQUESTED, begin_refund, lock_open, sums_of

#: The name of the action in the setting `APPROVAL_ACTIONS`.
ACTION: Final = "unmatched_charge.refund"


@transaction.atomic(durable=True)
def request_refund(*, charge_id: int, who: Who, reason: str) -> UnmatchedCharge | Approval:
    """Have the charge refunded; or, above the threshold, ask for a second approver, who is returned as an approval.

    Raises:
        UnmatchedCharge.DoesNotExist: there is none.
        UnmatchedChargeResolved, UnmatchedChargeAwaited: see there; nothing was done.
    """
    # Two requests at once would both see the person's limit as unused.
    resolutions.take_turns()
    charge = lock_open(charge_id)
    sums = sums_of(charge)
    if not needs_second_approver(REFUND_REQUESTED, sums, who):
        return begin_refund(charge_id=charge_id, who=who, reason=reason)
    money = ", ".join(f"{amount} {currency}" for currency, amount in sums.items())
    return approvals.ask(
        action=ACTION,
        payload={"charge": charge.pk},
        summary=f"Refund charge {charge.reference} at {charge.gateway}, worth {money}: no payment accounts for it.",
        count=1,
        sums=sums,
        reason=reason,
        who=who,
    )


class Refunds:
    """Carries out refunds that a second approver has agreed to."""

    permission = "payments.refund_unmatchedcharge"

    def carry_out(self, approval: Approval, *, who: Who) -> str:
        """Begin the refund, in the caller's transaction.

        Raises:
            UnmatchedChargeResolved, UnmatchedChargeAwaited: see there.
        """
        resolutions.take_turns()
        try:
            charge = begin_refund(
                charge_id=approval.payload["charge"], who=who, reason=approval.reason, approval=str(approval.pk)
            )
        except UnmatchedCharge.DoesNotExist:
            raise UnmatchedChargeResolved from None
        return f"unmatched_charge:{charge.pk}"

    def follow_up(self, approval: Approval) -> None:
        """Nothing: the commit has queued the refund."""


REFUNDS: Final = Refunds()
