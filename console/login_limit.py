"""The console's own door: how often a password may be tried at it."""

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from merchants import limits
from merchants.addresses import client_network
from merchants.throttling import name_in
from payments.problems import Kind

#: Pages of the console that take a password or a code.
DOORS: Final = frozenset({"admin:login", "admin:confirm"})


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
        usages = [limits.count(request, "logins", client_network(request))]
        if login := name_in(request.POST):
            usages.append(limits.count(request, "logins_by_name", login))
        waits = [usage.reset for usage in usages if usage is not None and usage.exceeded]
        return refuse(request, wait=max(waits)) if waits else None


def refuse(request: HttpRequest, *, wait: int) -> HttpResponse:
    """429, in words."""
    seconds = "1 second" if wait == 1 else f"{wait} seconds"
    kind = Kind("Too many attempts", f"Too many logins were tried. Wait {seconds}, then load the login page again.")
    response = render(request, "problem.html", {"code": "rate_limited", "kind": kind}, status=429)
    response["Retry-After"] = str(wait)
    return response
