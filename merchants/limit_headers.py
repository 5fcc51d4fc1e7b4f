"""Tells every client how far its limits are used up, by draft-ietf-httpapi-ratelimit-headers."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from merchants import limits


class LimitHeaders:
    """Middleware: `RateLimit-Policy` and `RateLimit` on every answer to a request that was counted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """One item for each limit."""
        response = self.get_response(request)
        if counted := limits.counted(request):
            response["RateLimit-Policy"] = ", ".join(usage.policy for usage in counted)
            response["RateLimit"] = ", ".join(usage.state for usage in counted)
        return response
