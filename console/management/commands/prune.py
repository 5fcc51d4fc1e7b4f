"""`manage.py prune`: forget what has been kept long enough. For cron, daily; safe beside traffic."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand
from django.utils import timezone

from payments import idempotency

#: Rows per transaction: locks are held for milliseconds, and an interrupted run has lost nothing.
BATCH: Final = 1000


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("it must be at least 1")
    return number


class Command(BaseCommand):
    """Forgets idempotency keys past their 30 days; those of payments that are not final stay."""

    help = "Forget idempotency keys that have been kept long enough, in small batches."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How large a batch is."""
        parser.add_argument(
            "--batch", type=at_least_one, default=BATCH, help="rows per transaction; default: %(default)s"
        )

    def handle(self, *args: Any, batch: int, **options: Any) -> None:
        """Forget batch after batch, until one is not full."""
        before = timezone.now() - idempotency.KEPT_FOR
        total = 0
        while True:
            pruned = idempotency.prune(before=before, batch=batch)
            total += pruned
            if pruned < batch:
                break
        self.stdout.write(f"Idempotency keys forgotten: {total}.")
