"""What every answer says to browsers, and what no request may hold."""

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

from console.errors import refuse_nul

GetResponse = Callable[[HttpRequest], HttpResponse]

#: Devices and interfaces that no page of ours uses, nor anything that gets into one.
NO_FEATURES: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        *("accelerometer", "autoplay", "camera", "display-capture", "encrypted-media", "fullscreen", "geolocation"),
        *("gyroscope", "magnetometer", "microphone", "midi", "payment", "publickey-credentials-get"),
        *("screen-wake-lock", "usb", "xr-spatial-tracking"),
    )
)
#: Of an answer that is no page, nothing may ever be run or shown.
DATA_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGES: Final = ("text/html", "application/xhtml+xml", "image/svg+xml")


def is_api(request: HttpRequest) -> bool:
    """Whether no page is asked for. Who calls is shown by each request itself, and views there are exempt from CSRF."""
    return request.path_info.startswith("/api/")


class HeadersMiddleware:
    """Stands before everything that answers, so that static files and errors have these headers as well."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add what is missing; whoever may keep an answer says so in the answer itself.

        Answers with tokens, keys, secrets and recovery codes rely on it (RFC 6749, section 5.1).
        """
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", NO_FEATURES)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        response.headers.setdefault("Cache-Control", "no-store")
        if is_api(request) or response.headers.get("Content-Type", "").partition(";")[0] not in PAGES:
            response.headers.setdefault("Content-Security-Policy", DATA_POLICY)
        return response


class RefuseNulMiddleware:
    """No address may hold a NUL; a cookie that does is none of ours. Stands before all that reads cookies.

    Below `/api` each parameter and each body has its own, more exact answer.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """400, or on."""
        request.COOKIES = {name: value for name, value in request.COOKIES.items() if "\0" not in value}
        given = request.path_info + request.META.get("QUERY_STRING", "")
        if ("\0" in given or "%00" in given) and not request.path_info.startswith("/api/"):
            return refuse_nul(request)
        return self.get_response(request)
