"""`manage.py prune`: forget what has been kept long enough. For cron, daily; safe beside traffic."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils import timezone

from analytics import daily
from merchants import audit, buckets, counters, lockout, sessions
from messaging import dead_letters, outbox
from notifications import retention
from payments import idempotency
from payments.management.who import runs_this

#: Rows per transaction: locks are held for milliseconds, and an interrupted run has lost nothing.
BATCH: Final = 1000
LARGEST_BATCH: Final = 50_000


def size_of_batch(text: str) -> int:
    """A whole number from 1 on, and no more than PostgreSQL takes parameters."""
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_BATCH:
        raise ArgumentTypeError(f"it must be a whole number, from 1 to {LARGEST_BATCH}")
    return int(text)


def kinds() -> dict[str, tuple[Callable[..., int], timedelta]]:
    """What there is to forget -> what forgets a batch of it, and how long it is kept."""
    return {
        "idempotency_keys": (idempotency.prune, idempotency.KEPT_FOR),
        "dead_letters": (dead_letters.prune, timedelta(seconds=settings.DEAD_LETTERS_KEPT_FOR)),
        "deliveries": (retention.prune, timedelta(seconds=settings.DELIVERIES_KEPT_FOR)),
        "outbox_leftovers": (outbox.prune, outbox.LEFTOVERS_KEPT_FOR),
        "login_sessions": (sessions.prune, sessions.KEPT_FOR),
        "failed_logins": (lockout.prune, settings.AXES_COOLOFF_TIME),
        "sessions_of_the_console": (prune_console_sessions, timedelta(0)),
        "counters_of_limits": (prune_limits, timedelta(0)),
        "runs_of_metrics": (daily.prune, daily.RUNS_KEPT_FOR),
    }


def prune_console_sessions(*, before: datetime, batch: int) -> int:
    """One batch of Django's sessions that are over."""
    over = Session.objects.filter(expire_date__lt=before).order_by("expire_date").values("pk")[:batch]
    return Session.objects.filter(pk__in=over).delete()[0]


def prune_limits(*, before: datetime, batch: int) -> int:
    """One batch of what limits have counted."""
    return counters.prune(before=before, batch=batch) + buckets.prune(before=before, batch=batch)


class Command(BaseCommand):
    """Forgets idempotency keys past their 30 days, but for those of payments that are not final; dead letters that
    were resolved long ago, never open ones; deliveries that ended long ago, unless such a letter is about them; and
    what else is only of use for a while. Each batch is a transaction of its own.
    """

    help = "Forget, in small batches, what has been kept long enough: keys, letters, deliveries, logins and more."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How large a batch is."""
        parser.add_argument(
            "--batch", type=size_of_batch, default=BATCH, help="rows per transaction; default: %(default)s"
        )

    def handle(self, *args: Any, batch: int, **options: Any) -> None:
        """Forget what is old enough, kind by kind."""
        now, counts = timezone.now(), {}
        for kind, (prune, kept_for) in kinds().items():
            counts[kind] = prune_all(prune, before=now - kept_for, batch=batch)
            self.stdout.write(f"{kind.replace('_', ' ').capitalize()} forgotten: {counts[kind]}.")
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
