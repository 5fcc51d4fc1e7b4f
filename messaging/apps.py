import dramatiq
from django.apps import AppConfig

from messaging import commit_durability, doorbell, timestamps


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = "Messaging"

    def ready(self) -> None:
        """Install the hooks of database connections, and the broker middleware that needs the models."""
        from messaging.escapes import Escapes  # noqa: PLC0415  # tables exist only from here on

        timestamps.install()
        doorbell.install()
        commit_durability.install()
        dramatiq.get_broker().add_middleware(Escapes())
