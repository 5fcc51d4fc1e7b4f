"""The admin site of the console: Django's, with the pages by which staff show who they are."""

from typing import Any, Final

from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.module_loading import autodiscover_modules

from console import confirm_views, second_factor_views
from console.change_list import FilteredChangeList
from merchants import audit, sessions
from merchants.confirmation import confirmed
from merchants.models import LoginSession
from merchants.passwords import SavesPasswordOnly

#: Apps whose pages are not in the console: see `is_left_out`.
LEFT_OUT: Final = frozenset({"django_dramatiq", "otp_static", "otp_totp"})


class OwnPasswordForm(SavesPasswordOnly, AdminPasswordChangeForm):
    """A new password for oneself."""


class ConsoleSite(AdminSite):
    """All its pages are behind `console.guard`. They are found when one is asked for first: of all processes only those
    that serve the web have use for them.
    """

    site_header = "Payments"
    site_title = "Payments console"
    index_title = "Console"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.pages: dict[Any, Any] | None = None

    @property
    def _registry(self) -> dict[Any, Any]:
        """Model -> its pages. Where some cannot be found there are none, and the web process does not start."""
        if self.pages is None:
            self.pages = {}
            try:
                autodiscover_modules("admin", register_to=self)
            except BaseException:
                self.pages = None
                raise
        return self.pages

    @_registry.setter
    def _registry(self, pages: dict[Any, Any]) -> None:
        """Django puts it back as it was where an app has no pages."""
        self.pages = pages

    def register(self, model_or_iterable: Any, *args: Any, **options: Any) -> None:
        """Add pages, but none of what should not be in the console, whoever asks for them, and whenever."""
        models = [model_or_iterable] if isinstance(model_or_iterable, type) else model_or_iterable
        registered = [model for model in models if not is_left_out(model)]
        super().register(registered, *args, **options)
        for model in self._registry.keys() & set(registered):  # a swapped model is not registered
            self._registry[model].get_changelist = _get_changelist

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
        request.current_app = self.name
        response = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )(request)
        if isinstance(response, HttpResponseRedirect):
            user: Any = request.user
            sessions.end_all(user=user, why=LoginSession.End.CHANGED, now=timezone.now())
            audit.record(audit.by(request), "user.password_changed", subject=f"user:{user.pk}")
        return response


def _get_changelist(_request: HttpRequest, **_options: Any) -> type[ChangeList]:
    """Return the class of each list in the console."""
    return FilteredChangeList


def is_left_out(model: type[Model]) -> bool:
    """django_dramatiq's task list shows arguments and tracebacks unescaped; the lists of one-time passwords show the
    secrets themselves; groups grant nothing here.
    """
    return model._meta.app_label in LEFT_OUT or model._meta.label == "auth.Group"  # noqa: SLF001  # Django documents it
