from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class MerchantsConfig(AppConfig):
    name = "merchants"
    verbose_name = "Merchants"

    def ready(self) -> None:
        """Make the credentials known to the API's documentation, and have logins written down."""
        from axes.signals import user_locked_out  # noqa: PLC0415  # models can be imported only now

        import merchants.schema  # noqa: F401, PLC0415  # registers itself when imported
        from merchants import lockout  # noqa: PLC0415  # models can be imported only now

        user_logged_in.connect(lockout.note_login, dispatch_uid="merchants.lockout.note_login")
        user_locked_out.connect(lockout.note_lock, dispatch_uid="merchants.lockout.note_lock")
