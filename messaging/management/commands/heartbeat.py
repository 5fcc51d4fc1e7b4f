"""`manage.py heartbeat relay`: does the process in this very container live? For the health checks of Docker.

It asks PostgreSQL, so it fails with it: let it report, and do not restart a process because of it.
"""

import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone

from messaging import heartbeats
from messaging.models import Heartbeat


class Command(BaseCommand):
    """Exit status 0 when an instance on this host has beaten lately; else 1, and one line that says why."""

    help = "Say whether a process on this host (in this container) has shown a sign of life lately."
    # Checking the whole project every few seconds would cost more than the answer.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The process."""
        parser.add_argument("process", help="relay, worker, …")

    def handle(self, *args: Any, process: str, **options: Any) -> None:
        """Look for a fresh heartbeat."""
        host = socket.gethostname()
        try:
            beat = freshest(process, host=host)
        except Error as error:
            raise CommandError(f"The heartbeats cannot be read: {' '.join(str(error).split())}") from None
        if beat is None:
            seconds = heartbeats.STALE_AFTER.total_seconds()
            raise CommandError(f"No {process} on {host} has shown itself in the last {seconds:.0f} s.")
        self.stdout.write(f"{beat.process} {beat.instance} {beat.beat_at:%H:%M:%S} {beat.note}".rstrip())


def freshest(process: str, *, host: str) -> Heartbeat | None:
    """The freshest heartbeat of this host, if it is fresh enough.

    `heartbeats.latest` asks about all hosts: with several workers, it would name now this one and now another.
    """
    beats = Heartbeat.objects.filter(
        process=process, instance__startswith=f"{host}:", beat_at__gt=timezone.now() - heartbeats.STALE_AFTER
    )
    return beats.order_by("-beat_at").first()
