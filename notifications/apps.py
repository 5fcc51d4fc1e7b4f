from django.apps import AppConfig
from django.core.checks import register

from notifications.checks import check_catalogues


class NotificationsConfig(AppConfig):
    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        """Look for the translations whenever a command checks the project."""
        register(check_catalogues, "translation")
