"""The admin site of the console: Django's, with the pages by which staff show who they are."""

from django.contrib.admin import AdminSite
from django.urls import URLPattern, URLResolver, path

from console import confirm_views, second_factor_views


class ConsoleSite(AdminSite):
    """All its pages are behind `console.guard`."""

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """With ours in front: the last of Django's takes every address."""
        own = [
            path("confirm/", self.admin_view(confirm_views.confirm_page), name="confirm"),
            path("second-factor/", second_factor_views.set_up_page, name="second_factor"),
            path("second-factor/code/", second_factor_views.code_page, name="second_factor_code"),
            path(
                "second-factor/recovery-codes/",
                self.admin_view(second_factor_views.recovery_codes_page),
                name="second_factor_codes",
            ),
            path(
                "second-factor/reset/<int:user_id>/",
                self.admin_view(second_factor_views.reset_page),
                name="second_factor_reset",
            ),
        ]
        return [*own, *super().get_urls()]
