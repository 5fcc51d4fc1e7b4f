from django.apps import AppConfig, apps
from django.contrib import admin


class ConsoleConfig(AppConfig):
    name = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        """Name the console, and drop django_dramatiq's task list: it shows arguments and tracebacks unescaped."""
        admin.site.site_header = "Payments"
        admin.site.site_title = "Payments console"
        admin.site.index_title = "Console"
        admin.autodiscover()
        admin.site.unregister(list(apps.get_app_config("django_dramatiq").get_models()))
