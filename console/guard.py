"""What stands before every page of the console: a login of today, and a second factor."""

import time
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from console.errors import answer, refuse_nul
from console.junk import has_nul, names_nothing
from merchants import second_factor

#: A login lasts no longer than a working day (seconds), however busy its session is.
LONGEST: Final = 8 * 3600
#: The keys in the session: when it began (seconds since 1970), and whether its person had a device then, or since.
BEGAN_AT: Final = "began_at"
HAD_DEVICE: Final = "had_device"
#: Pages that look themselves at who comes, by their names in the admin.
OPEN: Final = frozenset({"login", "logout", "second_factor", "second_factor_code"})


def begin(request: HttpRequest, user: Any, **_event: Any) -> None:
    """Receives `user_logged_in`."""
    request.session[BEGAN_AT] = time.time()
    request.session[HAD_DEVICE] = second_factor.device_of(user) is not None


def is_over(request: HttpRequest, *, has_device: bool) -> bool:
    """Whether the login is too old, or the device that it began with is gone: then it begins anew, with the password.

    Otherwise whoever holds a stolen session could set up a device of his own after the owner's was reset.
    """
    began = request.session.get(BEGAN_AT)
    if not isinstance(began, float) or not 0 <= time.time() - began < LONGEST:
        return True
    return bool(request.session.get(HAD_DEVICE)) and not has_device


def lacks_code(request: HttpRequest, *, has_device: bool) -> bool:
    """Whether the person has a device that this session has not shown a code of."""
    user: Any = request.user  # django-otp's middleware has added to it
    return has_device and user.otp_device is None


class GuardMiddleware:
    """Looks at every page of the admin's, whatever its address is, and however it was added."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Nothing: the address is known only later."""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, _view: Any, _arguments: Any, _options: dict[str, Any]
    ) -> HttpResponse | None:
        """An answer instead of the page, or None: whoever is not logged in is sent to the login by the admin."""
        match = request.resolver_match
        if match is None or "admin" not in match.app_names:
            return None
        if refusal := refuse_junk(request, str(match.url_name)):
            return refusal
        user: Any = request.user
        if not user.is_authenticated:
            return None
        has_device = second_factor.device_of(user) is not None
        if is_over(request, has_device=has_device):
            return end(request)
        return None if match.url_name in OPEN else first_of_all(request, str(match.url_name), has_device=has_device)


def refuse_junk(request: HttpRequest, page: str) -> HttpResponse | None:
    """An answer to what Django would fail at."""
    if page == "view_on_site":  # none of our objects has another page, and Django looks the id up unchecked
        raise Http404
    if has_nul(request):
        return refuse_nul(request)
    return answer(request, 400) if names_nothing(request, page) else None


def end(request: HttpRequest) -> HttpResponse:
    """Log out, and say why."""
    logout(request)
    messages.info(request, "This session has ended. Please log in again.")
    return redirect_to_login(begun_at(request), reverse("admin:login"))


def first_of_all(request: HttpRequest, name: str, *, has_device: bool) -> HttpResponse | None:
    """To the page that asks for a code, or to the one that sets up what makes them; that may ask for the password."""
    if lacks_code(request, has_device=has_device):
        page = "admin:second_factor_code"
    elif settings.ADMIN_SECOND_FACTOR and not has_device and name != "confirm":
        page = "admin:second_factor"
    else:
        return None
    return redirect(f"{reverse(page)}?{urlencode({'next': begun_at(request)})}")


def begun_at(request: HttpRequest) -> str:
    """Where to go on afterwards. What was posted is not kept."""
    return request.get_full_path() if request.method in {"GET", "HEAD"} else reverse("admin:index")
