from django.apps import AppConfig, apps
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_migrate

from merchants.later import later


class ConsoleAdminConfig(SimpleAdminConfig):
    """Django's admin, with a site of ours, which finds its pages when they are asked for."""

    default_site = "console.site.ConsoleSite"


class ConsoleConfig(AppConfig):
    name = "console"
    verbose_name = "Console"

    def ready(self) -> None:
        """Note logins, and keep the roles of staff in step with the permissions that there are."""
        from console import roles  # noqa: PLC0415  # it imports models, which are there only now

        for path in ("merchants.confirmation.confirm", "console.guard.begin"):
            user_logged_in.connect(later(path), weak=False, dispatch_uid=path)
        # Django makes the permissions of each app in turn: after the last one all are there.
        last = [config for config in apps.get_app_configs() if config.models_module][-1]
        post_migrate.connect(roles.keep_in_step, sender=last, dispatch_uid="console.roles")
