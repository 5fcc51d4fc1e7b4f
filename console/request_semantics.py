"""Refuses request headers that change what a request means, where this service would ignore them."""

from collections.abc import Callable, Mapping
from typing import Final

from django.http import HttpRequest, HttpResponse
from rest_framework.permissions import SAFE_METHODS

from console.errors import refuse

GetResponse = Callable[[HttpRequest], HttpResponse]

CONDITIONS: Final = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")
#: The headers looked at here. A request that has one of them does not take the fast path.
LOOKED_AT: Final = ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING", "HTTP_CONTENT_RANGE", *CONDITIONS)

Fault = tuple[int, str, Mapping[str, str]]


class RefuseIgnoredHeadersMiddleware:
    """Stands before everything that reads a body."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse the request, or pass it on."""
        fault = fault_in(request)
        return self.get_response(request) if fault is None else refuse(request, *fault)


def fault_in(request: HttpRequest) -> Fault | None:
    """Return the status, detail and headers of a refusal; None for a request without such headers."""
    transfer = request.META.get("HTTP_TRANSFER_ENCODING", "chunked")
    if transfer.strip().lower() != "chunked":  # RFC 9112, section 6.1
        return 501, f"`Transfer-Encoding: {transfer[:100]}` is not supported: send `chunked`, or `Content-Length`.", {}
    coding = request.META.get("HTTP_CONTENT_ENCODING", "identity")
    if coding.strip().lower() not in {"identity", ""}:  # RFC 9110, sections 8.4 and 15.5.16
        detail = f"`Content-Encoding: {coding[:100]}` is not supported: send the body uncompressed."
        return 415, detail, {"Accept-Encoding": "identity"}
    if "HTTP_CONTENT_RANGE" in request.META and request.method not in SAFE_METHODS:  # RFC 9110, section 14.5
        return 400, "`Content-Range` is not supported: send the whole body.", {}
    condition = next((name for name in CONDITIONS if name in request.META), None)
    if condition and request.method not in SAFE_METHODS:  # RFC 9110, section 13.1
        header = condition.removeprefix("HTTP_").replace("_", "-").title()
        return 412, f"`{header}` can not hold: this API has no entity tags. Leave it out.", {}
    return None
