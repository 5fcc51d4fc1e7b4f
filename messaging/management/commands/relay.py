"""`manage.py relay`: moves the outbox to RabbitMQ and rescues what got stuck."""

from typing import Any

import dramatiq
import structlog
from django.conf import settings
from django.core.management.base import BaseCommand

from messaging.process import STOP_TIMEOUT, start_worker, stop_on_signals
from messaging.publisher import InProcessPublisher, RabbitPublisher
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
            publisher = RabbitPublisher(url, dramatiq.get_broker().get_declared_queues())
            Relay(publisher).run(stopping)
            return
        log.warning("in_process_broker", hint="Set RABBITMQ_URL to use RabbitMQ.")
        worker = start_worker(threads=settings.WORKER_THREADS)
        Relay(InProcessPublisher()).run(stopping)
        worker.stop(timeout=STOP_TIMEOUT)
