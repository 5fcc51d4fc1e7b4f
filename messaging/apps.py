import dramatiq
from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = "Messaging"

    def ready(self) -> None:
        """Complete the broker with what needs the tables, and make every app's `actors` known to it."""
        from messaging.escapes import Escapes  # noqa: PLC0415  # tables exist only from here on

        dramatiq.get_broker().add_middleware(Escapes())
        autodiscover_modules("actors")
