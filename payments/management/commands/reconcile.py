"""`manage.py reconcile --gateway NAME --since 24h`: compare the gateway's list of charges with our payments."""

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from payments.gateways.base import ListFailed
from payments.money import EXPONENTS, to_major_units
from payments.operations.listed_charges import Difference
from payments.operations.reconcile import Reconciliation, reconcile

#: The end of the period where none is given: what was charged later may not be settled yet.
SETTLING: Final = timedelta(minutes=1)
SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
#: Exit statuses.
DIFFERENCES: Final = 1
FAILED: Final = 2


class Command(BaseCommand):
    """Records charges without a payment for review; changes no payment."""

    help = "Compare a gateway's list of charges with our payments, both ways."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which gateway and which period."""
        parser.add_argument("--gateway", choices=sorted(settings.GATEWAYS), help="default: each of the settings")
        parser.add_argument("--since", required=True, metavar="TIME", help="2026-12-01T00:00Z, or a span: 24h, 90m, 7d")
        parser.add_argument("--until", metavar="TIME", help="the same; default: a minute ago")
        parser.add_argument("--json", action="store_true", help="print a JSON array, one object per gateway")
        parser.epilog = (
            "Exit status: 0 all agree; 1 there are differences; 2 the gateway or the command line is at fault."
        )

    def handle(self, *args: Any, gateway: str | None, since: str, until: str | None, **options: Any) -> None:
        """Compare, and print each difference and a summary."""
        now = timezone.now()
        begin = read_moment(since, "--since", now=now)
        end = read_moment(until, "--until", now=now) if until else now - SETTLING
        if begin >= end:
            raise CommandError("--since is not before --until; nothing was compared.", returncode=FAILED)
        names = [gateway] if gateway else sorted(settings.GATEWAYS)
        summaries = [self.compare(name, begin, end, is_json=options["json"]) for name in names]
        if options["json"]:
            self.stdout.write(json.dumps(summaries, indent=2))
        if not all(summary["equal"] for summary in summaries):
            sys.exit(DIFFERENCES)

    def compare(self, gateway: str, begin: datetime, end: datetime, *, is_json: bool) -> dict[str, Any]:
        """Compare one gateway, and print what is found unless that is printed as JSON at the end."""
        show: Callable[[Difference], None] = (lambda _difference: None) if is_json else self.show
        try:
            result = reconcile(gateway=gateway, since=begin, until=end, found=show)
        except ListFailed as failure:
            raise CommandError(f"{gateway} did not return its charges: {failure}", returncode=FAILED) from None
        summary = {"gateway": gateway, "since": begin.isoformat(), "until": end.isoformat(), **summary_of(result)}
        if not is_json:
            self.stdout.write(in_words(summary))
        return summary

    def show(self, difference: Difference) -> None:
        """Print one difference."""
        amount = major(difference)
        detail = f" ({difference.detail})" if difference.detail else ""
        payment = f", payment {difference.payment_id}" if difference.payment_id else ""
        self.stdout.write(f"{difference.kind}: charge {difference.reference}, {amount}{payment}{detail}")


def read_moment(text: str, option: str, *, now: datetime) -> datetime:
    """Return a time, or so long ago as a span says. Raises CommandError."""
    if span := SPAN.fullmatch(text):
        return now - timedelta(**{UNITS[span[2]]: int(span[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        wanted = "a time like 2026-12-01T00:00Z or a span like 24h"
        raise CommandError(f"{option} is {text!r}; it must be {wanted}.", returncode=FAILED) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def major(difference: Difference) -> str:
    """Return the amount in major units, or in minor units of an unknown currency."""
    known = difference.currency in EXPONENTS
    amount = to_major_units(difference.amount, difference.currency) if known else f"{difference.amount} minor units"
    return f"{amount} {difference.currency}"


def summary_of(result: Reconciliation) -> dict[str, Any]:
    """Return the numbers and the differences."""
    tally = result.tally
    return {
        "equal": result.is_equal,
        "charges": tally.charges,
        "declined": tally.declined,
        "matched": tally.matched,
        "in_flight": tally.in_flight,
        "resolved": tally.resolved,
        "payments": result.payments,
        "recorded": tally.recorded,
        "differences": [asdict(difference) for difference in tally.differences],
    }


def in_words(summary: dict[str, Any]) -> str:
    """Return the numbers as a sentence."""
    count = len(summary["differences"])
    verdict = "all agree" if not count else f"{count} difference{'s' if count > 1 else ''}"
    return (
        f"{summary['gateway']}: {summary['charges']} charges listed ({summary['matched']} matched, "
        f"{summary['declined']} declined, {summary['in_flight']} in flight, {summary['resolved']} resolved by staff), "
        f"{summary['payments']} payments with money compared: {verdict}; "
        f"{summary['recorded']} new unmatched charges recorded."
    )
