"""`manage.py compute_daily_metrics`: the numbers of each day, for dashboards and the API. For cron."""

import sys
from argparse import ArgumentParser
from contextlib import closing
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DataError
from django.utils import timezone
from tqdm import tqdm

from analytics import daily, stretches
from analytics.daily import Busy
from analytics.days import day_of, range_of, refuse
from analytics.stretches import Stretch


class Command(BaseCommand):
    """Computes the days to which anything happened since the last run, or those that are named."""

    help = "Compute the daily metrics: of the days touched since the last run, or of those that are named."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which days."""
        parser.add_argument("--date", metavar="YYYY-MM-DD", help="this day only")
        parser.add_argument("--from", dest="first", metavar="YYYY-MM-DD", help="all days from this one on …")
        parser.add_argument("--to", dest="last", metavar="YYYY-MM-DD", help="… to this one; default: today")
        parser.add_argument("--rebuild", action="store_true", help="all days there are")
        parser.add_argument(
            *("--jobs", "-j"),
            type=int,
            choices=range(1, 9),
            default=2,
            metavar="N",
            help="stretches of days computed at a time, each by one core and up to 200 MB of PostgreSQL's; "
            "default: %(default)s",
        )
        parser.add_argument("--dry-run", action="store_true", help="only tell how many rows would change")
        parser.epilog = "Exit status: 0 done, or another run is under way; 1 failed; 2 the days make no sense."

    def handle(self, *args: Any, **options: Any) -> None:
        """Compute them, alone."""
        named = named_days(options["date"], options["first"], options["last"], rebuild=options["rebuild"])
        try:
            with daily.alone():
                self.run(named, rebuild=options["rebuild"], dry_run=options["dry_run"], jobs=options["jobs"])
        except Busy:
            same = named is None and not options["rebuild"]
            then = "It does the same." if same else "Run this again when it has ended."
            self.stdout.write(f"Another run is under way; nothing was done. {then}")
        except DataError as error:
            if "time zone" not in str(error):
                raise
            refuse(f"A merchant's time zone is unknown to PostgreSQL ({str(error).splitlines()[0]}): mend it.")

    def run(self, named: list[Stretch] | None, *, rebuild: bool, dry_run: bool, jobs: int) -> None:
        """Compute days, stretch by stretch, each its own commit."""
        started_at = timezone.now()
        chosen = stretches.all_days() if rebuild else stretches.since_last_run() if named is None else named
        rows = 0
        bar = tqdm(total=days_of(chosen), unit=" days", disable=not sys.stderr.isatty())
        # Closed, and so at its end, before another run may begin, whatever happens here.
        with bar, closing(daily.compute_all(chosen, dry_run=dry_run, jobs=jobs)) as computed:
            for stretch, changed in computed:
                rows += changed
                bar.update(stretch.days)
        if not dry_run and named is None:
            daily.remember(chosen, rows=rows, rebuild=rebuild, started_at=started_at)
        daily.note(chosen, rows=rows, rebuild=rebuild, dry_run=dry_run)
        self.stdout.write(tell(chosen, rows, dry_run=dry_run))


def named_days(on: str | None, first: str | None, last: str | None, *, rebuild: bool) -> list[Stretch] | None:
    """The days that the options name; None where they name none.

    Raises:
        CommandError: they make no sense; one line that says why, and exit status 2.
    """
    if sum([on is not None, first is not None or last is not None, rebuild]) > 1:
        refuse("Name the days in one way only: --date, or --from and --to, or --rebuild.")
    if on is not None:
        day = day_of(on, "--date")
        return stretches.cut(day, day)
    if first is not None:
        return stretches.cut(*range_of(first, last))
    return refuse("--to needs --from.") if last is not None else None


def days_of(chosen: list[Stretch]) -> int:
    """How many days they are."""
    return sum(stretch.days for stretch in chosen)


def tell(chosen: list[Stretch], rows: int, *, dry_run: bool) -> str:
    """What was done."""
    if not chosen:
        return "Nothing happened since the last run: all days are as they were."
    days = days_of(chosen)
    first, last = min(stretch.first for stretch in chosen), max(stretch.last for stretch in chosen)
    would = "would change" if dry_run else "changed"
    return f"{days} day{'s' if days > 1 else ''} computed, {first} to {last}; {rows} rows {would}."
