from django.apps import AppConfig


class MerchantsConfig(AppConfig):
    name = "merchants"
    verbose_name = "Merchants"

    def ready(self) -> None:
        """Make the credentials known to the API's documentation."""
        import merchants.schema  # noqa: F401, PLC0415  # registers itself when imported
