"""`manage.py intake`: takes payments that other services ask for by message."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from messaging.process import stop_on_signals
from payments import intake


class Command(BaseCommand):
    """The intake process. Messages that wait are taken together; several instances share the queue."""

    help = "Accept payments from the queue of messages from outside. Run one or several."
    requires_system_checks = ()  # they would load all that the web process serves

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM."""
        url = settings.ENV.rabbitmq_url
        if not url:
            raise CommandError("RABBITMQ_URL is not set: set it to your RabbitMQ; there are no messages without it.")
        intake.make(url).run(stop_on_signals())
