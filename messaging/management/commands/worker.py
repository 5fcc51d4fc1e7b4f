"""`manage.py worker`: takes messages from RabbitMQ and runs their actors."""

from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import heartbeats
from messaging.process import start_workers, stop_on_signals, stop_workers

#: Who serves it charges, and has the heartbeat `worker`; who serves others only, `notifier`.
MAIN_QUEUE: Final = "payments"


class Command(BaseCommand):
    """A worker process: one process, several threads, no children. Scale it by count."""

    help = "Run the actors. One process with several threads; run as many as the work needs."
    requires_system_checks = ("translation",)  # all others would load what the web process serves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Threads, and the queues to serve."""
        parser.add_argument("--threads", type=int, help="for each queue; default: the setting of each")
        parser.add_argument("--queues", nargs="*", help="only these queues; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM, then finish the work in hand."""
        if not settings.ENV.rabbitmq_url:
            raise CommandError("RABBITMQ_URL is not set: without RabbitMQ, `manage.py relay` runs the workers itself.")
        stopping = stop_on_signals()
        queues = chosen(options["queues"], threads=options["threads"])
        workers = start_workers(queues)
        pulse = heartbeats.Pulse("worker" if MAIN_QUEUE in queues else "notifier")
        while not stopping.wait(1.0):
            threads = [thread for worker in workers for thread in (*worker.workers, *worker.consumers.values())]
            if not all(thread.is_alive() for thread in threads):
                pulse.stop()
                raise CommandError("A thread of the worker has died; start the worker again.")
            pulse.beat()
        stop_workers(workers)
        pulse.stop()


def chosen(queues: list[str] | None, *, threads: int | None) -> dict[str, int]:
    """The queues to serve, with the threads of each.

    Raises:
        CommandError: there is no such queue.
    """
    known: dict[str, int] = settings.WORKER_THREADS
    if unknown := set(queues or ()) - set(known):
        raise CommandError(f"There is no queue {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    return {queue: threads or known[queue] for queue in queues or known}
