"""`manage.py relay`: moves the outbox to RabbitMQ, rescues what got stuck, and collects what RabbitMQ gave up."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging import collector, topology
from messaging.process import start_workers, stop_on_signals, stop_workers
from messaging.publisher import ANNOUNCE_DEADLINE, InProcessPublisher, RabbitPublisher
from messaging.relay import Relay
from messaging.subscribers import Subscribers

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """The relay process. Without RABBITMQ_URL it hosts the in-process broker and the workers as well."""

    help = "Publish the outbox to RabbitMQ and rescue what got stuck. Run one or several."
    requires_system_checks = ("translation",)  # all others would load what the web process serves

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM."""
        stopping = stop_on_signals()
        url = settings.ENV.rabbitmq_url
        beside = {"subscribers": Subscribers().run}
        if url:
            patient = settings.PATIENT_QUEUES
            publisher = RabbitPublisher(url, [queue for queue in topology.work_queues() if queue not in patient])
            # It declares no queue: one that hangs would hold it up. Those who read them declare them.
            announcer = RabbitPublisher(url, [], exchange=settings.EVENTS_EXCHANGE, deadline=ANNOUNCE_DEADLINE)
            with running({**beside, "collector": collector.make(url).run}, stopping):
                Relay(publisher, announcer=announcer).run(stopping)
            return
        log.warning("in_process_broker", hint="Set RABBITMQ_URL to use RabbitMQ.")
        workers = start_workers(settings.WORKER_THREADS)
        with running(beside, stopping):
            Relay(InProcessPublisher()).run(stopping)
        stop_workers(workers)


@contextmanager
def running(loops: Mapping[str, Callable[[Event], None]], stopping: Event) -> Iterator[None]:
    """Run loops beside the relay, each in a thread of its own.

    Raises:
        CommandError: one died of a defect; the relay was stopped with it.
    """
    defects: dict[str, BaseException] = {}

    def run(name: str, loop: Callable[[Event], None]) -> None:
        try:
            loop(stopping)
        except Exception as defect:
            log.exception("thread_died", thread=name)
            defects[name] = defect
            stopping.set()

    threads = [Thread(target=run, args=(name, loop), name=name) for name, loop in loops.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    for name, defect in defects.items():
        raise CommandError(f"The thread `{name}` has died; start the relay again.") from defect
