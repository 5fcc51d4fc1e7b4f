"""Staff show who they are again before what moves money: a session left open on a desk must not be enough."""

import functools
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

#: The key in the session: when its person last showed who they are, in seconds since 1970.
CONFIRMED_AT: Final = "confirmed_at"

#: A page, or an action of a list, which may answer nothing.
View = TypeVar("View", bound=Callable[..., Any])
Page = Callable[..., HttpResponse]


def confirm(request: HttpRequest, **_event: Any) -> None:
    """Note that the session's person has just shown who they are. Receives `user_logged_in`, too."""
    request.session[CONFIRMED_AT] = time.time()


def is_confirmed(request: HttpRequest) -> bool:
    """Whether that was lately."""
    at = request.session.get(CONFIRMED_AT)
    return isinstance(at, float) and 0 <= time.time() - at < settings.ADMIN_CONFIRM_EVERY


def ask(request: HttpRequest) -> HttpResponse:
    """Send to the page that asks, and from there to where the action begins. Nothing was done."""
    # What was posted is not kept: the form is filled in anew, by somebody who is known then.
    begin = request.get_full_path() if request.method in {"GET", "HEAD"} else request.headers.get("Referer", "")
    return redirect(f"{reverse('admin:confirm')}?{urlencode({'next': begin})}")


def confirmed(view: View) -> View:
    """A page of the console for what moves money: whoever has not lately shown who they are is asked first."""

    @functools.wraps(view)
    def page(request: HttpRequest, *arguments: Any, **options: Any) -> Any:
        return view(request, *arguments, **options) if is_confirmed(request) else ask(request)

    return cast("View", page)


class ConfirmedEdits:
    """Mixin for admin classes: the forms that change something ask first, and so do deletions and actions."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *arguments: Any, **options: Any
    ) -> HttpResponse:
        """Who may only look is not asked."""
        page: Page = super().changeform_view  # type: ignore[misc]  # Django's, of the admin class
        changes = object_id is None or request.method == "POST" or self.has_change_permission(request)  # type: ignore[attr-defined]  # Django's
        return (confirmed(page) if changes else page)(request, object_id, *arguments, **options)

    def delete_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        """Always."""
        page: Page = super().delete_view  # type: ignore[misc]  # the same
        return confirmed(page)(request, *arguments, **options)

    def changelist_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        """What is posted to a list are actions."""
        page: Page = super().changelist_view  # type: ignore[misc]  # the same
        return (confirmed(page) if request.method == "POST" else page)(request, *arguments, **options)
