"""`manage.py unmatched_charge list|adopt|refund|dismiss`: charges at a gateway that no payment accounts for."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from merchants.audit import Who, by_shell
from merchants.models import Approval
from merchants.reasons import reason_of
from merchants.refusals import Refused
from payments.management.who import runs_this
from payments.models import UnmatchedCharge
from payments.money import EXPONENTS, to_major_units
from payments.operations import adopt_charge, dismiss_charge, request_refund
from payments.unmatched_charge import PENDING


class Command(BaseCommand):
    """Each decision takes a reason and is written to the audit."""

    help = "List unmatched charges; adopt, refund or dismiss one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to do, and with which charge."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|adopt|refund|dismiss")
        actions.add_parser("list", help="those that are open or being refunded")
        for action, text in (
            ("adopt", "create the payment, succeeded, with the charge as its proof"),
            ("refund", "return the whole amount to the payer"),
            ("dismiss", "close the review without moving money"),
        ):
            parsed = actions.add_parser(action, help=text)
            parsed.add_argument("id", type=int, help="the number that `list` shows")
            parsed.add_argument("--reason", required=True, help="why; kept in the audit")
            parsed.add_argument("--by", default=runs_this(), help="who decides; default: %(default)s")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Do it, and say what came of it."""
        if action == "list":
            self.list_pending()
            return
        reason = reason_of(options["reason"])
        try:
            self.stdout.write(DECIDE[action](options["id"], by_shell(options["by"]), reason))
        except UnmatchedCharge.DoesNotExist:
            raise CommandError(f"There is no unmatched charge {options['id']}; nothing was done.") from None
        except Refused as refusal:
            raise CommandError(refusal.detail) from None

    def list_pending(self) -> None:
        """Print a line for each charge that something is to be done about."""
        charges = UnmatchedCharge.objects.filter(state__in=sorted(PENDING)).order_by("id")
        for charge in charges:
            known = charge.currency in EXPONENTS
            amount = to_major_units(charge.amount, charge.currency) if known else f"{charge.amount} minor units"
            line = f"{charge.pk}: {charge.gateway} {charge.reference}, {amount} {charge.currency}, {charge.reason}"
            order = f", order {charge.order_id} of {charge.merchant_slug}" if charge.order_id else ""
            error = f": {charge.error_detail}" if charge.error_detail else ""
            self.stdout.write(f"{line}{order} ({charge.state}{error})")
        if not charges:
            self.stdout.write("No charge waits for a decision.")


def adopt(charge_id: int, who: Who, reason: str) -> str:
    """Adopt the charge."""
    payment = adopt_charge(charge_id=charge_id, who=who, reason=reason)
    return f"Adopted: payment {payment.pk} accounts for the charge."


def refund(charge_id: int, who: Who, reason: str) -> str:
    """Request the refund, or a second approver for it."""
    requested = request_refund(charge_id=charge_id, who=who, reason=reason)
    if isinstance(requested, Approval):
        return f"Nothing was refunded yet: the amount needs a second approver (approval {requested.pk})."
    return "The refund was requested; a worker makes it within seconds, and `list` shows it until then."


def dismiss(charge_id: int, who: Who, reason: str) -> str:
    """Dismiss the charge."""
    dismiss_charge(charge_id=charge_id, who=who, reason=reason)
    return "Dismissed: no money was moved."


DECIDE: Final[dict[str, Callable[[int, Who, str], str]]] = {"adopt": adopt, "refund": refund, "dismiss": dismiss}
