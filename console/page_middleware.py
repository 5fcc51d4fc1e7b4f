"""Middleware that only pages need. What is below `/api` has no cookies, no session and no messages: it goes past."""

from collections.abc import Callable
from typing import Any

from csp import middleware as csp
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponse
from django_otp import middleware as otp

from console import guard, login_limit
from console.security import is_api


def for_pages(middleware: type[Any]) -> type[Any]:
    """The middleware, but that it leaves the API alone."""

    class ForPages(middleware):  # type: ignore[misc]  # whichever it is
        def __call__(self, request: HttpRequest) -> HttpResponse:
            """The next one, at once or by way of this."""
            go_on: Callable[[HttpRequest], HttpResponse] = self.get_response if is_api(request) else super().__call__
            return go_on(request)

    class LooksAtViews(ForPages):
        def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
            """As the middleware does, if it does anything here."""
            answer: HttpResponse | None = None if is_api(request) else super().process_view(request, *view)
            return answer

    return LooksAtViews if hasattr(middleware, "process_view") else ForPages


CSPMiddleware = for_pages(csp.CSPMiddleware)
SessionMiddleware = for_pages(sessions.SessionMiddleware)
AuthenticationMiddleware = for_pages(auth.AuthenticationMiddleware)
OTPMiddleware = for_pages(otp.OTPMiddleware)
LoginLimit = for_pages(login_limit.LoginLimit)
MessageMiddleware = for_pages(messages.MessageMiddleware)
GuardMiddleware = for_pages(guard.GuardMiddleware)
