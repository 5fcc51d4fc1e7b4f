"""`manage.py worker`: takes messages from RabbitMQ and runs their actors."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import heartbeats
from messaging.process import STOP_TIMEOUT, start_worker, stop_on_signals


class Command(BaseCommand):
    """A worker process: one process, several threads, no children. Scale it by count."""

    help = "Run the actors. One process with several threads; run as many as the work needs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Threads, and the queues to serve."""
        parser.add_argument("--threads", type=int, default=settings.WORKER_THREADS, help="default: %(default)s")
        parser.add_argument("--queues", nargs="*", help="only these queues; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM, then finish the work in hand."""
        if not settings.ENV.rabbitmq_url:
            raise CommandError("RABBITMQ_URL is not set: without RabbitMQ, `manage.py relay` runs the workers itself.")
        stopping = stop_on_signals()
        worker = start_worker(threads=options["threads"], queues=set(options["queues"] or ()) or None)
        pulse = heartbeats.Pulse("worker")
        while not stopping.wait(1.0):
            if not all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()]):
                pulse.stop()
                raise CommandError("A thread of the worker has died; start the worker again.")
            pulse.beat()
        worker.stop(timeout=STOP_TIMEOUT)
        pulse.stop()
