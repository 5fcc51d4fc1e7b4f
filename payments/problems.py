"""The only map from errors to HTTP: everything that goes wrong becomes `application/problem+json` (RFC 9457)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import exceptions
from rest_framework.response import Response

from merchants.refusals import Refused, in_one_line
from merchants.throttling import after_refusal
from merchants.wording import VALIDATOR_MESSAGES
from messaging.database_errors import close_unfit_session, is_retryable
from payments.errors import OrderConflict

CONTENT_TYPE: Final = "application/problem+json"
#: Faults that one problem lists.
MAX_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its title, and the mend that its page explains."""

    title: str
    mend: str


#: What the framework raises, by status code -> our code for it, title and mend.
GENERAL: Final[dict[int, tuple[str, Kind]]] = {
    400: (
        "invalid_request",
        Kind(
            "Invalid request", "Mend what `errors` names, one entry for each fault, and send again. Nothing was stored."
        ),
    ),
    401: (
        "unauthenticated",
        Kind("Not authenticated", "Send an API key or a valid access token as `Authorization: Bearer …`."),
    ),
    403: ("forbidden", Kind("Not allowed", "Use a credential that has the scope for this request.")),
    404: (
        "not_found",
        Kind(
            "Not found",
            "Check the address and the id; test and live objects, and other merchants' objects, do not meet.",
        ),
    ),
    405: (
        "method_not_allowed",
        Kind("Method not allowed", "See the API documentation for the methods of this address."),
    ),
    406: ("not_acceptable", Kind("Not acceptable", "Answers are JSON: send `Accept: application/json`.")),
    412: (
        "precondition_failed",
        Kind("Precondition failed", "Leave out `If-Match` and `If-None-Match`: this API has no entity tags."),
    ),
    413: (
        "body_too_large",
        Kind("Request body too large", "Send less; a payment never needs more than a few kilobytes."),
    ),
    414: ("uri_too_long", Kind("Address too long", "Send a shorter address: fewer or shorter query parameters.")),
    415: ("unsupported_media_type", Kind("Unsupported media type", "Send JSON with `Content-Type: application/json`.")),
    429: ("rate_limited", Kind("Too many requests", "Wait as long as `Retry-After` says, then go on more slowly.")),
    431: (
        "headers_too_large",
        Kind("Header fields too large", "Send fewer or shorter header fields, such as cookies."),
    ),
    500: (
        "internal_error",
        Kind(
            "Internal error",
            "Send the same request again with the same idempotency key; if it stays, tell support the `request_id`.",
        ),
    ),
    501: (
        "not_implemented",
        Kind("Not implemented", "Send `Transfer-Encoding: chunked` and no other transfer coding, or `Content-Length`."),
    ),
    503: (
        "temporarily_unavailable",
        Kind("Temporarily unavailable", "Send the same request again with the same idempotency key in a few seconds."),
    ),
}

RETRYABLE_STATUS: Final = frozenset({429, 500, 503})


def catalogue() -> dict[str, Kind]:
    """Every code that a problem can carry -> what its page says."""
    ours = {refusal.code: Kind(refusal.title, in_one_line(refusal.__doc__)) for refusal in Refused.kinds}
    return dict(GENERAL.values()) | ours


class RefusedException(exceptions.APIException):
    """A refusal of ours in the clothes that the framework expects."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(refusal.detail, code=refusal.code)
        self.refusal = refusal
        self.status_code = refusal.status_code
        self.wait = refusal.retry_after if refusal.retryable else None
        self.auth_header = 'Bearer realm="api"' if refusal.status_code == 401 else None  # RFC 9110, section 15.5.2


class Unavailable(exceptions.APIException):
    """The database does not answer, takes no writes, or is busy: the same request may succeed later."""

    status_code = 503
    default_detail = "The database cannot be reached, takes no writes, or is locked for too long."
    wait = 1


class ProblemHandler(ExceptionHandler):
    """Turns any exception of a view into a response."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """Dress refusals and an unreachable database for the framework; count whom a refusal left uncounted."""
        known = self.dress(exc)
        if not isinstance(known, exceptions.APIException):
            return known
        return after_refusal(known, self.context.get("request"), self.context.get("view"))

    def dress(self, exc: Exception) -> Exception:
        """The exception as the framework knows it, if it is a known one."""
        if isinstance(exc, Refused):
            return RefusedException(exc)
        if is_retryable(exc):
            close_unfit_session(exc)
            return Unavailable()
        converted: Exception = super().convert_known_exceptions(exc)
        return converted

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Response:
        """The problem, under its own media type."""
        return Response(data, status=exc.status_code, headers=self.get_headers(exc), content_type=CONTENT_TYPE)


class ProblemFormatter(ExceptionFormatter):
    """Writes the body of a problem."""

    def run(self) -> dict[str, Any]:
        """The members of RFC 9457 and ours."""
        request = self.context["request"]
        refusal = self.exc.refusal if isinstance(self.exc, RefusedException) else None
        faults = [] if refusal else list(islice(walk(self.exc.detail), MAX_FAULTS))
        texts = (VALIDATOR_MESSAGES.get(fault.code or "", str(fault)) for _, fault in faults)
        detail = refusal.detail if refusal else " ".join(dict.fromkeys(texts))
        in_query = request is not None and request.method in {"GET", "HEAD"}
        return problem(
            request,
            status=self.exc.status_code,
            detail=detail,
            refusal=refusal,
            listed=[describe(path, fault, in_query=in_query) for path, fault in faults]
            if isinstance(self.exc, exceptions.ValidationError)
            else point_at(refusal),
        )


def walk(detail: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], exceptions.ErrorDetail]]:
    """Every fault in the framework's nested lists and dicts, with the names that lead to it."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from walk(inner, path if name == "non_field_errors" else (*path, str(name)))
    elif isinstance(detail, list):
        for number, inner in enumerate(detail):
            yield from walk(inner, (*path, str(number)) if isinstance(inner, dict) else path)
    else:
        yield path, detail


def describe(path: tuple[str, ...], fault: exceptions.ErrorDetail, *, in_query: bool) -> dict[str, str]:
    """One fault, with where it is: a JSON Pointer into the body (RFC 6901), or the name of a query parameter."""
    escaped = (name.replace("~", "~0").replace("/", "~1") for name in path)
    where = {"parameter": ".".join(path)} if in_query else {"pointer": "".join(f"/{name}" for name in escaped)}
    code = fault.code or "invalid"
    return {**where, "code": code, "detail": VALIDATOR_MESSAGES.get(code, str(fault))}


def point_at(refusal: Refused | None) -> list[dict[str, str]]:
    """What a refusal finds fault with, if that is a single member of the body."""
    if refusal is None or not refusal.pointer:
        return []
    return [{"pointer": refusal.pointer, "code": refusal.code, "detail": refusal.detail}]


def problem(
    request: Any,
    *,
    status: int,
    detail: str,
    refusal: Refused | None = None,
    listed: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """The members of a problem."""
    code, kind = GENERAL.get(status, GENERAL[500 if status >= 500 else 400])
    if refusal is not None:
        code, kind = refusal.code, Kind(refusal.title, refusal.detail)
    return {
        "type": request.build_absolute_uri(f"/problems/{code}") if request is not None else "about:blank",
        "title": kind.title,
        "status": status,
        "detail": detail,
        "instance": request.path if request is not None else "",
        "code": code,
        "errors": listed or [],
        "retryable": refusal.retryable if refusal else status in RETRYABLE_STATUS,
        "payment_id": str(refusal.payment_id) if isinstance(refusal, OrderConflict) else None,
        "request_id": request.META.get("HTTP_X_REQUEST_ID", "") if request is not None else "",
    }
