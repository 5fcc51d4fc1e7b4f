"""`manage.py export_metrics`: the daily metrics for spreadsheets and other programs."""

import contextlib
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from django.core.management.base import BaseCommand
from django.db import transaction

from analytics import export
from analytics.days import range_of, refuse
from merchants import audit
from merchants.models import Merchant, Mode
from payments.management.who import runs_this

FORMATS: Final = {"csv": export.as_csv, "json": export.as_json}
#: What is written where nobody says from when.
DAYS_AT_FIRST: Final = 30


class Command(BaseCommand):
    """Writes the rows of some days, by merchant, currency and gateway."""

    help = "Write the daily metrics as CSV, or as JSON with an object in each line."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which rows, and where to."""
        parser.add_argument("--format", choices=FORMATS, default="csv", help="default: %(default)s")
        parser.add_argument("--from", dest="first", metavar="YYYY-MM-DD", help=f"default: {DAYS_AT_FIRST} days in all")
        parser.add_argument("--to", dest="last", metavar="YYYY-MM-DD", help="default: today")
        parser.add_argument("--merchant", metavar="SLUG", help="of this merchant alone")
        parser.add_argument("--mode", choices=Mode.values, help="of test or of live payments alone")
        parser.add_argument("--output", metavar="FILE", help="default: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write them, and that it was done."""
        first, last = range_of(options["first"], options["last"], days=DAYS_AT_FIRST)
        merchant = merchant_of(options["merchant"])
        mode = Mode(options["mode"]) if options["mode"] else None
        rows = export.rows_of(first=first, last=last, merchant=merchant, mode=mode)
        with transaction.atomic(durable=True):
            what = {"from": first, "to": last, "mode": options["mode"], "format": options["format"]}
            audit.record(audit.by_shell(runs_this()), "metrics.exported", merchant=merchant, after=what)
        with opened(options["output"]) as out:
            out.writelines(FORMATS[options["format"]](rows))


def merchant_of(slug: str | None) -> Merchant | None:
    """The merchant of a slug; None where none is named."""
    if slug is None:
        return None
    found = Merchant.objects.filter(slug=slug).first()
    return found or refuse(f"There is no merchant with the slug {slug[:64]!r}; the console lists them.")


@contextlib.contextmanager
def opened(name: str | None) -> Iterator[IO[str]]:
    """Where to write to. A file that is there is replaced."""
    if name is None:
        # Whoever reads has read enough, as `head` does. What is left to write goes nowhere, or Python would complain.
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        with Path(name).open("w", encoding="utf-8", newline="") as out:
            yield out
    except OSError as error:
        refuse(f"{name} cannot be written: {error.strerror}.")
