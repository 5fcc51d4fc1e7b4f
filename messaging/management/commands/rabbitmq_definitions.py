"""`manage.py rabbitmq_definitions`: what must exist on RabbitMQ, as its own tools load it."""

import json
from typing import Any

from django.core.management.base import BaseCommand

from messaging import topology


class Command(BaseCommand):
    """Prints the queues and the exchange; `deploy/rabbitmq/definitions.json` is this output. Asks no server."""

    help = "Print our queues and exchange as a RabbitMQ definitions file, for `rabbitmqctl import_definitions`."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Print it."""
        self.stdout.write(json.dumps(topology.definitions(), indent=2))
