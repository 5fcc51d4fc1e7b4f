from django.apps import AppConfig, apps
from django.contrib import admin


class ConsoleConfig(AppConfig):
    name = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        """Name the console, and drop what should not be in it.

        django_dramatiq's task list shows arguments and tracebacks unescaped; the lists of one-time passwords show
        the secrets themselves; groups grant nothing here.
        """
        admin.site.site_header = "Payments"
        admin.site.site_title = "Payments console"
        admin.site.index_title = "Console"
        admin.autodiscover()
        for label in ("django_dramatiq", "otp_static", "otp_totp"):
            admin.site.unregister(list(filter(admin.site.is_registered, apps.get_app_config(label).get_models())))
        admin.site.unregister(apps.get_model("auth", "Group"))
