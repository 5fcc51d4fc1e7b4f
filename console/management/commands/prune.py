"""`manage.py prune`: forget what has been kept long enough. For cron, daily; safe beside traffic."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from merchants import audit, buckets, counters, lockout, sessions
from messaging import dead_letters
from notifications import retention
from payments import idempotency
from payments.management.who import runs_this

#: Rows per transaction: locks are held for milliseconds, and an interrupted run has lost nothing.
BATCH: Final = 1000


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("it must be at least 1")
    return number


class Command(BaseCommand):
    """Forgets idempotency keys past their 30 days, but for those of payments that are not final; dead letters that
    were resolved long ago, never open ones; deliveries that ended long ago, unless such a letter is about them; and
    logins, a week after their end, and counters of limits whose time is over.
    """

    help = "Forget, in small batches, what has been kept long enough: keys, letters, deliveries, logins and counters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How large a batch is."""
        parser.add_argument(
            "--batch", type=at_least_one, default=BATCH, help="rows per transaction; default: %(default)s"
        )

    def handle(self, *args: Any, batch: int, **options: Any) -> None:
        """Forget what is old enough, kind by kind."""
        now = timezone.now()
        keys = prune_all(idempotency.prune, before=now - idempotency.KEPT_FOR, batch=batch)
        kept_for = timedelta(seconds=settings.DEAD_LETTERS_KEPT_FOR)
        letters = prune_all(dead_letters.prune, before=now - kept_for, batch=batch)
        self.stdout.write(f"Idempotency keys forgotten: {keys}.")
        self.stdout.write(f"Dead letters forgotten: {letters}.")
        kept_for = timedelta(seconds=settings.DELIVERIES_KEPT_FOR)
        deliveries = prune_all(retention.prune, before=now - kept_for, batch=batch)
        self.stdout.write(f"Deliveries forgotten: {deliveries}.")
        ended = prune_all(sessions.prune, before=now - sessions.KEPT_FOR, batch=batch)
        self.stdout.write(f"Login sessions forgotten: {ended}.")
        self.stdout.write(f"Failed logins forgotten: {lockout.prune(now=now)}.")
        limits = sum(prune_all(prune, before=now, batch=batch) for prune in (counters.prune, buckets.prune))
        self.stdout.write(f"Counters of limits forgotten: {limits}.")
        counts = {"idempotency_keys": keys, "dead_letters": letters, "deliveries": deliveries}
        with transaction.atomic(durable=True):  # an interrupted run is told by the next one
            audit.record(audit.by_shell(runs_this()), "records.pruned", after=counts)


def prune_all(prune: Callable[..., int], *, before: datetime, batch: int) -> int:
    """Forget batch after batch, until one is not full; returns how many in all."""
    total = 0
    while True:
        pruned = prune(before=before, batch=batch)
        total += pruned
        if pruned < batch:
            return total
