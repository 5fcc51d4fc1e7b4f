"""Signs of life: every process writes a row every few seconds; health, metrics and the console read them."""

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from django.db import Error, connection
from django.db.models.functions import Now
from django.utils import timezone

from messaging.models import Heartbeat

log = structlog.get_logger(__name__)

#: Seconds between two beats.
INTERVAL: Final = 5.0
#: A process silent for this long is taken for dead: three beats missed.
STALE_AFTER: Final = timedelta(seconds=3 * INTERVAL)
#: Rows of processes that are long gone tell nobody anything.
FORGET_AFTER: Final = timedelta(hours=1)


@dataclass(slots=True)
class Pulse:
    """One process's heartbeat."""

    process: str
    last: float = 0.0
    last_note: str = ""

    @property
    def instance(self) -> str:
        """Host and process id."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def beat(self, note: str = "") -> None:
        """Write a sign of life if it is time for one, or if there is something new to say."""
        now = time.monotonic()
        if note == self.last_note and self.last and now - self.last < INTERVAL:
            return
        self.last, self.last_note = now, note
        try:
            Heartbeat.objects.bulk_create(
                [Heartbeat(process=self.process, instance=self.instance, note=note[:200], beat_at=timezone.now())],
                update_conflicts=True,
                unique_fields=["process", "instance"],
                update_fields=["note", "beat_at"],
            )
        except Error:
            # The process works on without its heartbeat; readers see it go stale, which is the truth.
            log.warning("heartbeat_failed", process=self.process)
            connection.close()

    def stop(self) -> None:
        """Say goodbye, so that a stopped process is not taken for a dead one."""
        with contextlib.suppress(Error):
            Heartbeat.objects.filter(process=self.process, instance=self.instance).delete()


def latest(process: str) -> Heartbeat | None:
    """The freshest sign of life of any instance of a process, if it is fresh enough."""
    return (
        Heartbeat.objects.filter(process=process, beat_at__gt=timezone.now() - STALE_AFTER).order_by("-beat_at").first()
    )


def is_known(process: str) -> bool:
    """Whether a process was started and has not said goodbye. Not everybody runs every process."""
    return Heartbeat.objects.filter(process=process).exists()


def prune() -> int:
    """Forget processes that are long gone."""
    deleted, _ = Heartbeat.objects.filter(beat_at__lt=Now() - FORGET_AFTER).delete()
    return deleted
