from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in

from merchants.later import later


class MerchantsConfig(AppConfig):
    name = "merchants"
    verbose_name = "Merchants"

    def ready(self) -> None:
        """Have logins written down, and errors say the API's own words."""
        from axes.signals import user_locked_out  # noqa: PLC0415  # models can be imported only now

        from merchants import wording  # noqa: PLC0415  # the framework reads the settings when it is imported

        wording.install()
        for signal, path in [
            (user_logged_in, "merchants.lockout.note_login"),
            (user_locked_out, "merchants.lockout.note_lock"),
        ]:
            signal.connect(later(path), weak=False, dispatch_uid=path)
