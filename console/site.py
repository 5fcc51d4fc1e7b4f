"""The admin site of the console: Django's, with the pages by which staff show who they are."""

from typing import Any

from django.contrib.admin import AdminSite
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path
from django.utils import timezone
from django.utils.decorators import method_decorator

from console import confirm_views, second_factor_views
from merchants import audit, sessions
from merchants.confirmation import confirmed
from merchants.models import LoginSession


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

    @method_decorator(confirmed)
    @transaction.atomic
    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """One's own password, asked for first where wrong ones are counted; what began with the old one ends."""
        response = super().password_change(request, extra_context)
        if isinstance(response, HttpResponseRedirect):
            user: Any = request.user
            sessions.end_all(user=user, why=LoginSession.End.CHANGED, now=timezone.now())
            audit.record(audit.by(request), "user.password_changed", subject=f"user:{user.pk}")
        return response
