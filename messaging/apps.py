import dramatiq
from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from messaging import timestamps


class MessagingConfig(AppConfig):
    name = "messaging"
    verbose_name = "Messaging"

    def ready(self) -> None:
        """Have timestamps read fast; complete the broker with what needs the tables, and every app's `actors`."""
        from messaging.escapes import Escapes  # noqa: PLC0415  # tables exist only from here on

        timestamps.install()
        dramatiq.get_broker().add_middleware(Escapes())
        autodiscover_modules("actors")
