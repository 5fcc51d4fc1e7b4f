from django.apps import AppConfig, apps
from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_migrate


class ConsoleAdminConfig(AdminConfig):
    """Django's admin, with a site of ours."""

    default_site = "console.site.ConsoleSite"


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
        self.connect()

    def connect(self) -> None:
        """Note logins, and keep the roles of staff in step with the permissions that there are."""
        from console import guard, roles  # noqa: PLC0415  # they import models, which are there only now
        from merchants import confirmation  # noqa: PLC0415  # the same

        user_logged_in.connect(confirmation.confirm, dispatch_uid="console.confirm")
        user_logged_in.connect(guard.begin, dispatch_uid="console.begin")
        # Django makes the permissions of each app in turn: after the last one all are there.
        last = [config for config in apps.get_app_configs() if config.models_module][-1]
        post_migrate.connect(roles.keep_in_step, sender=last, dispatch_uid="console.roles")
