"""`manage.py relay`: moves the outbox to RabbitMQ, rescues what got stuck, and collects what RabbitMQ gave up."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import collector, topology
from messaging.process import STOP_TIMEOUT, start_worker, stop_on_signals
from messaging.publisher import ANNOUNCE_DEADLINE, InProcessPublisher, RabbitPublisher
from messaging.relay import Relay

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """The relay process. Without RABBITMQ_URL it hosts the in-process broker and the workers as well."""

    help = "Publish the outbox to RabbitMQ and rescue what got stuck. Run one or several."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM."""
        stopping = stop_on_signals()
        url = settings.ENV.rabbitmq_url
        if url:
            publisher = RabbitPublisher(url, topology.work_queues())
            announcer = RabbitPublisher(url, [], exchange=settings.EVENTS_EXCHANGE, deadline=ANNOUNCE_DEADLINE)
            with collecting(url, stopping):
                Relay(publisher, announcer=announcer).run(stopping)
            return
        log.warning("in_process_broker", hint="Set RABBITMQ_URL to use RabbitMQ.")
        worker = start_worker(threads=settings.WORKER_THREADS)
        Relay(InProcessPublisher()).run(stopping)
        worker.stop(timeout=STOP_TIMEOUT)


@contextmanager
def collecting(url: str, stopping: Event) -> Iterator[None]:
    """Empty the dead-letter queues beside the relay, in a thread of its own.

    Raises:
        CommandError: the thread died of a defect; the relay was stopped with it.
    """
    defects: list[BaseException] = []

    def run() -> None:
        try:
            collector.make(url).run(stopping)
        except Exception as defect:
            log.exception("collector_died")
            defects.append(defect)
            stopping.set()

    thread = Thread(target=run, name="collector")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if defects:
        raise CommandError("The collector of dead letters has died; start the relay again.") from defects[0]
