"""One `request_id` follows a payment from the HTTP request through every message to the gateway call.

It is taken from the caller (`X-Request-ID`, the `request_id` or correlation id of a message, else the trace id of W3C
`traceparent`) or made here.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from django.http import HttpRequest, HttpResponse
from dramatiq import Broker, MessageProxy, Middleware

#: What a caller may choose; anything else could forge log lines or overflow the column.
ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: https://www.w3.org/TR/trace-context/#traceparent-header
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class RequestIdMiddleware:
    """Gives every HTTP request a sound `X-Request-ID`, and its response the same."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Set the id before anything logs, and answer with it."""
        request_id = choose_request_id(request.META)
        request.META["HTTP_X_REQUEST_ID"] = request_id
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


def choose_request_id(headers: dict[str, Any]) -> str:
    """The caller's id where it is acceptable, else the trace id, else a new one."""
    return first_acceptable(headers.get("HTTP_X_REQUEST_ID"), traceparent=headers.get("HTTP_TRACEPARENT"))


def first_acceptable(*offers: Any, traceparent: Any) -> str:
    """The first offer that is an acceptable id, else the trace id, else a new one; offers may be anything."""
    for offered in offers:
        if isinstance(offered, str) and ACCEPTABLE.fullmatch(offered):
            return offered
    if isinstance(traceparent, str) and (trace := TRACEPARENT.fullmatch(traceparent)):
        return trace[1]
    return uuid.uuid4().hex


def request_id_of(options: Mapping[str, Any], id_: object) -> str:
    """The request that one of a message's ids is of; its options may be anybody's."""
    known = options.get("request_ids")
    found = known.get(str(id_)) if isinstance(known, dict) else None
    return str(found or options.get("request_id", ""))


class ActorRequestId(Middleware):
    """Binds the id that came with a message to the log lines of its actor."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Bind the message's ids."""
        structlog.contextvars.bind_contextvars(
            request_id=message.options.get("request_id", ""), message_id=message.message_id, actor=message.actor_name
        )

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Forget them: the thread goes on to other messages."""
        structlog.contextvars.clear_contextvars()
