"""Runs that compute the daily metrics: one at a time, each stretch of days its own commit, and remembered."""

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import connection, transaction
from django.utils import timezone

from analytics.models import MetricsRun
from analytics.numbers import compute
from analytics.stretches import Stretch

log = structlog.get_logger(__name__)

#: One run at a time: a number of our own among PostgreSQL's advisory locks ("metrics" in ASCII).
LOCK: Final = 0x6D657472696373
#: How long the record of a run is kept.
RUNS_KEPT_FOR: Final = timedelta(days=90)
#: How often (s) a run that waits for another one looks whether that has ended.
PAUSE: Final = 0.2


class Busy(Exception):
    """Another run is under way; nothing was done."""


@contextmanager
def alone(*, patience: float = 0) -> Iterator[None]:
    """Be the only run, perhaps after so many seconds; the lock goes with the connection, should this process die.

    Raises:
        Busy: another one is.
    """
    until = time.monotonic() + patience
    # Not by waiting for the lock itself: `lock_timeout` ends that after a moment.
    while not is_ours():
        if time.monotonic() >= until:
            raise Busy
        time.sleep(PAUSE)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def is_ours() -> bool:
    """Whether we got the lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def compute_all(
    stretches: Sequence[Stretch], *, dry_run: bool, jobs: int
) -> Generator[tuple[Stretch, int], None, None]:
    """Compute stretches, at most `jobs` of them at a time; each, as it ends, with how many rows that changed.

    PostgreSQL lets no statement that writes use more than one of its cores. Two of the same days never meet: a
    stretch's rows are those of its own days.
    """
    if jobs == 1 or len(stretches) < 2:  # nothing to share out
        for stretch in stretches:
            yield stretch, compute_and_keep(stretch, dry_run=dry_run)
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="metrics") as pool:
        begun = {pool.submit(in_a_thread, stretch, dry_run=dry_run): stretch for stretch in stretches}
        try:
            for ended in as_completed(begun):
                yield begun[ended], ended.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error; those under way still end


def in_a_thread(stretch: Stretch, *, dry_run: bool) -> int:
    """Compute one stretch over a connection that goes with it."""
    try:
        return compute_and_keep(stretch, dry_run=dry_run)
    finally:
        connection.close()


def compute_and_keep(stretch: Stretch, *, dry_run: bool) -> int:
    """Compute one stretch, and with `dry_run` undo it."""
    with transaction.atomic(durable=True):
        changed = compute(stretch)
        transaction.set_rollback(dry_run)
    return changed


def remember(stretches: list[Stretch], *, rows: int, rebuild: bool, started_at: datetime) -> MetricsRun:
    """Record a run that has seen everything that was committed before it began."""
    return MetricsRun.objects.create(
        first_day=min((stretch.first for stretch in stretches), default=None),
        last_day=max((stretch.last for stretch in stretches), default=None),
        rebuild=rebuild,
        rows=rows,
        seen_up_to=started_at,
        started_at=started_at,
        finished_at=timezone.now(),
    )


def forget_runs() -> None:
    """Have the next run compute all days: payments were written with times of the past."""
    MetricsRun.objects.all().delete()


def note(stretches: list[Stretch], *, rows: int, **how: bool) -> None:
    """Say in the log what was computed."""
    days = [str(day) for stretch in stretches for day in (stretch.first, stretch.last)]
    log.info("daily_metrics_computed", first=min(days, default=None), last=max(days, default=None), rows=rows, **how)


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of runs from before a time, but never the latest: the next one begins where it ended."""
    latest = MetricsRun.objects.order_by("-id").values("pk")[:1]
    old = MetricsRun.objects.filter(finished_at__lt=before).exclude(pk__in=latest).order_by("id").values("pk")[:batch]
    return MetricsRun.objects.filter(pk__in=old).delete()[0]
