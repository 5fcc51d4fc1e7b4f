"""`manage.py retry_now ID…`: take payments up now that wait for their next retry or look-up."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from merchants.audit import by_shell
from merchants.reasons import reason_of
from payments.management.who import runs_this
from payments.operations import retry_now


class Command(BaseCommand):
    """Skips no guard: a paused gateway, a call under way and a final state are respected."""

    help = "Take payments up now instead of at their next_attempt_at."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which payments."""
        parser.add_argument("ids", nargs="+", metavar="ID", help="the payments' ids")
        parser.add_argument("--reason", default="", help="why; kept in the audit")
        parser.add_argument("--by", default=runs_this(), help="who wants it; default: %(default)s")

    def handle(self, *args: Any, ids: list[str], by: str, reason: str, **options: Any) -> None:
        """Bring each forward, and say which did not wait."""
        payment_ids = [read_id(text) for text in ids]
        reason = reason_of(reason, required=False)
        for payment_id in payment_ids:
            brought = retry_now(payment_id=payment_id, who=by_shell(by), reason=reason)
            said = "is taken up now" if brought else "does not wait: it is final, under way, queued, or unknown to us"
            self.stdout.write(f"{payment_id} {said}.")


def read_id(text: str) -> UUID:
    """A payment's id, or a CommandError."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text!r} is not the id of a payment; nothing was done.") from None
