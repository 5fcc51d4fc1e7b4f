"""The console's own door: how often a password may be tried at it."""

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from merchants import limits
from merchants.addresses import client_network
from merchants.throttling import name_in
from payments.problems import Kind

#: Pages of the console that take a password. The one that takes a code is slowed down by django-otp itself.
DOORS: Final = frozenset({"admin:login", "admin:confirm", "admin:password_change"})


class LoginLimit:
    """Middleware: counts as the API's own login does, by address and by name."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Nothing is done here: which page it is, only `process_view` knows."""
        response: HttpResponse = self.get_response(request)
        return response

    def process_view(self, request: HttpRequest, _view: Any, _arguments: Any, _options: Any) -> HttpResponse | None:
        """Count what is posted to a door; above the limit, a page that says when to come again."""
        match = request.resolver_match
        if request.method != "POST" or match is None or match.view_name not in DOORS:
            return None
        counted = [("logins", client_network(request)), ("logins_by_name", name_in(request.POST))]
        for name, who in counted:  # what the first refuses, the second does not count: else one address could use it up
            usage = limits.count(request, name, who) if who else None
            if usage is not None and usage.exceeded:
                return refuse(request, wait=usage.reset)
        return None


def refuse(request: HttpRequest, *, wait: int) -> HttpResponse:
    """429, in words."""
    seconds = "1 second" if wait == 1 else f"{wait} seconds"
    kind = Kind("Too many attempts", f"Too many logins were tried. Wait {seconds}, then load the login page again.")
    response = render(request, "problem.html", {"code": "rate_limited", "kind": kind}, status=429)
    response["Retry-After"] = str(wait)
    return response
