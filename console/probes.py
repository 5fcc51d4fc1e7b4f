"""Answers probes under any Host: Kubernetes and load balancers send the pod's address, which no setting can name."""

from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]

#: They report the state of this service, and what they answer holds no address made of the Host.
PATHS: Final = frozenset(f"/{name}{slash}" for name in ("livez", "readyz", "health", "metrics") for slash in ("", "/"))


class ProbeHostMiddleware:
    """Stands before everything that reads the Host, and gives probes one of `ALLOWED_HOSTS`."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Replace the Host of a probe; all other requests keep theirs, which Django checks."""
        if request.path_info in PATHS:
            request.META["HTTP_HOST"] = _allowed_host()
        return self.get_response(request)


def _allowed_host() -> str:
    """Return a host that Django's check accepts: the first of the setting; `.example.com` also allows example.com."""
    name = next(iter(settings.ALLOWED_HOSTS), "*").removeprefix(".")
    return "localhost" if name == "*" else str(name)
