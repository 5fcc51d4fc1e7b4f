import dramatiq
from django.apps import AppConfig

from messaging import doorbell, timestamps


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = "Messaging"

    def ready(self) -> None:
        """Have timestamps read fast and notices not kept, and complete the broker with what needs the tables."""
        from messaging.escapes import Escapes  # noqa: PLC0415  # tables exist only from here on

        timestamps.install()
        doorbell.install()
        dramatiq.get_broker().add_middleware(Escapes())
