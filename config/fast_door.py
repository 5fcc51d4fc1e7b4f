"""The door for what comes most: `POST /api/v1/payments`. Requests in order and in their usual form are accepted here,
many together; all others go through the house, and so does whatever `payments.fast_path` does not accept.

An answer given here is the one that the house would have given: headers, log line and metrics are made of the same
parts, and the tests of the API are run against both.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from io import BytesIO
from typing import Any, Final

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from django.http import HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django_prometheus.middleware import Metrics
from django_structlog.middlewares.request import logger

from config.front import Environ, Send
from config.lane import Lane
from config.threads import encoded
from console.request_semantics import LOOKED_AT
from console.security import HeadersMiddleware
from merchants.callers import credential_in
from messaging.correlation import choose_request_id
from messaging.database_errors import close_unfit_session
from payments import fast_path
from payments.fast_path import Accepted, Asked
from payments.views import PaymentsView

PATHS: Final = frozenset({"/api/v1/payments", "/api/v1/payments/"})
#: The usual forms of what is sent and wanted; None is a header that is not there.
SENT: Final = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})
WANTED: Final = frozenset({None, "*/*", "application/json", "application/json, text/plain, */*"})
#: Headers that change what is done, said or counted. Of a cookie, only Django knows whether it is answered by another.
UNUSUAL: Final = (
    *("HTTP_COOKIE", "HTTP_PREFER", *LOOKED_AT),
    *("HTTP_X_CORRELATION_ID", "HTTP_X_REQUESTED_WITH"),
)
#: How large (bytes) a usual body is at most: to read the worst that is allowed takes a hundred times as long as to read
#: a usual one, and all of a list wait for it.
LARGEST: Final = 4096


class FastDoor:
    """Stands before the house."""

    def __init__(self) -> None:
        self.lane: Lane[Asked, Accepted] = Lane(accept_together)

    async def answer(self, environ: Environ, body: bytes, send: Send) -> bool:
        """Answer a request, if it can be accepted here; else nothing was done."""
        began = time.perf_counter()
        asked = read(environ, body) if is_usual(environ, body) else None
        accepted = None if asked is None else await self.lane.ask(asked)
        if asked is None or accepted is None:
            return False
        secure = is_secure(environ)
        answer = accepted.answer.body.encode()
        told = encoded(headers(accepted, asked.request_id, len(answer), secure=secure))
        # First, as it was accepted whether or not somebody still waits to hear it.
        log(accepted, asked, path=environ["PATH_INFO"])
        counters(secure=secure).count(asked, len(answer), seconds=time.perf_counter() - began)
        await send({"type": "http.response.start", "status": 202, "headers": told})
        await send({"type": "http.response.body", "body": answer})
        return True


def accept_together(asked: Sequence[Asked]) -> Sequence[Accepted | None]:
    """As `fast_path` does. A connection that was lost is left, for the next list."""
    try:
        return fast_path.accept_together(asked)
    except Exception as error:
        close_unfit_session(error)
        close_old_connections()
        raise


def is_usual(environ: Environ, body: bytes) -> bool:
    """Whether a request may be accepted here, by all but what its body says."""
    return (
        environ["REQUEST_METHOD"] == "POST"
        and environ["PATH_INFO"] in PATHS
        and not environ.get("QUERY_STRING")
        and environ.get("CONTENT_TYPE", "").lower() in SENT
        and environ.get("HTTP_ACCEPT") in WANTED
        and environ.get("CONTENT_LENGTH") == str(len(body))
        and len(body) <= LARGEST
        and not any(name in environ for name in UNUSUAL)
        and is_our_host(environ.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS))
        and (is_secure(environ) or not settings.SECURE_SSL_REDIRECT)
    )


@lru_cache(maxsize=100)
def is_our_host(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether the house would answer under this name."""
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, allowed)


def is_secure(environ: Environ) -> bool:
    """Whether the request came over TLS, as far as we are told."""
    if settings.SECURE_PROXY_SSL_HEADER:
        name, wanted = settings.SECURE_PROXY_SSL_HEADER
        if (said := environ.get(name)) is not None:
            return bool(said.split(",", 1)[0].strip() == wanted)
    return bool(environ["wsgi.url_scheme"] == "https")


def read(environ: Environ, body: bytes) -> Asked | None:
    """The request, if it shows a credential. The house is to know it by the same id."""
    credential = credential_in(api_key=environ.get("HTTP_X_API_KEY"), authorization=environ.get("HTTP_AUTHORIZATION"))
    if credential is None:
        return None
    environ["HTTP_X_REQUEST_ID"] = request_id = choose_request_id(environ)
    return Asked(
        credential=credential,
        idempotency_key=environ.get("HTTP_IDEMPOTENCY_KEY"),
        body=body,
        request_id=request_id,
    )


# --- what is told of it


def headers(accepted: Accepted, request_id: str, length: int, *, secure: bool) -> list[tuple[str, str]]:
    """Those of the answer."""
    answer, usage = accepted.answer, accepted.usage
    own = [
        ("Content-Length", str(length)),
        ("Location", answer.location),
        ("RateLimit-Policy", usage.policy),
        ("RateLimit", usage.state),
        ("X-Request-ID", request_id),
    ]
    if answer.replayed:
        own.append(("Idempotent-Replayed", "true"))
    return [*standing_headers(secure=secure), *own]


@cache
def standing_headers(*, secure: bool) -> tuple[tuple[str, str], ...]:
    """Those that all answers have, put on by the middleware itself."""
    asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/payments", "wsgi.input": BytesIO()}
    request = WSGIRequest({**asked, "wsgi.url_scheme": "https" if secure else "http"})
    view = PaymentsView()
    view.setup(request)
    plain = HttpResponse(content_type="application/json", headers=view.default_response_headers)
    answer: Any = partial(same, plain)
    for middleware in (XFrameOptionsMiddleware, HeadersMiddleware, SecurityMiddleware):
        answer = middleware(answer)
    return tuple(answer(request).items())


def same(response: HttpResponse, _request: Any) -> HttpResponse:
    """What a view would answer to anything."""
    return response


def log(accepted: Accepted, asked: Asked, *, path: str) -> None:
    """The log's line of the request."""
    logger.info(
        "request_finished",
        request_id=asked.request_id,
        user_id=accepted.caller.pk,
        code=202,
        request=f"POST {path}",
    )


@dataclass(frozen=True, slots=True)
class Counters:
    """What django-prometheus counts of a payment that is accepted: bound once, as they are always the same."""

    each: tuple[Any, ...]
    asked_bytes: Any
    answered_bytes: Any
    latencies: tuple[Any, ...]

    def count(self, asked: Asked, answered: int, *, seconds: float) -> None:
        """One request."""
        for counter in self.each:
            counter.inc()
        self.asked_bytes.observe(len(asked.body))
        self.answered_bytes.observe(answered)
        for latency in self.latencies:
            latency.observe(seconds)


@cache
def counters(*, secure: bool) -> Counters:
    """Those of requests with or without TLS."""
    metrics: Any = Metrics.get_instance()  # type: ignore[no-untyped-call]  # comes without types
    transport = "https" if secure else "http"
    return Counters(
        each=(
            metrics.requests_total,
            metrics.responses_total,
            metrics.requests_by_method.labels(method="POST"),
            metrics.requests_by_transport.labels(transport=transport),
            metrics.requests_by_view_transport_method.labels(view="payments", transport=transport, method="POST"),
            metrics.responses_by_status.labels(status="202"),
            metrics.responses_by_status_view_method.labels(status="202", view="payments", method="POST"),
            metrics.responses_by_charset.labels(charset="utf-8"),
        ),
        asked_bytes=metrics.requests_body_bytes,
        answered_bytes=metrics.responses_body_bytes,
        latencies=(
            metrics.requests_latency_before,
            metrics.requests_latency_by_view_method.labels(view="payments", method="POST"),
        ),
    )
