"""The API's documentation: its last touch, and how it is served."""

from functools import cache
from typing import Any, Final

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.views import APIView

import merchants.schema  # noqa: F401  # tells drf-spectacular of our credentials

#: Name -> what the documentation says of it.
LIMIT_HEADERS: Final = {
    "RateLimit-Policy": "The limits that the request counted against: how many requests (`q`) in how many seconds "
    "(`w`), as in draft-ietf-httpapi-ratelimit-headers.",
    "RateLimit": "What remains of each of them (`r`), and the seconds until it is renewed (`t`).",
}
RETRY_AFTER: Final = "Whole seconds to wait before the request is sent again."


def without_trailing_slashes(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """A drf-spectacular hook: our routes end in an optional slash, and are documented without it."""
    result["paths"] = {path.rstrip("/"): operations for path, operations in result["paths"].items()}
    return result


def with_limits(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """A drf-spectacular hook: every operation has its limit, and so a 429, and tells how far it is used up."""
    headers = result["components"].setdefault("headers", {})
    headers |= {name: text_header(text) for name, text in LIMIT_HEADERS.items()}
    headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}, "description": RETRY_AFTER}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"] = with_429(operation["responses"])
    return result


def with_400(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """A drf-spectacular hook: every operation refuses malformed headers, such as two different credentials."""
    refusal = {
        "description": "",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"] = dict(sorted({"400": refusal, **operation["responses"]}.items()))
    return result


def text_header(text: str) -> dict[str, Any]:
    """A header whose value is text."""
    return {"schema": {"type": "string"}, "description": text}


def with_429(responses: dict[str, Any]) -> dict[str, Any]:
    """An operation's answers, and the one to requests that are too many."""
    refusal = {
        "description": "Too many requests.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    every = {**responses, "429": {**refusal, **responses.get("429", {})}}
    counted = [code for code in every if code.startswith("2") or code == "429"]
    for code in counted:
        named = every[code].setdefault("headers", {})
        named |= {name: {"$ref": f"#/components/headers/{name}"} for name in LIMIT_HEADERS}
    every["429"]["headers"]["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return dict(sorted(every.items()))


class DocumentView(APIView):
    """A view whose renderers write one document, and nothing else."""

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the allowed methods, without a body that these renderers would have to write."""
        return HttpResponse(headers={"Allow": ", ".join(self.allowed_methods)})


class DocsView(DocumentView, SpectacularSwaggerSplitView):
    """The documentation as a page."""


class SchemaView(DocumentView, SpectacularAPIView):
    """The document. It is the same for everybody, and takes a second to write: once in each process is enough."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """As written the first time, in the format that the client takes."""
        renderer = request.accepted_renderer
        body = written(type(renderer).__name__)
        return HttpResponse(body, content_type=renderer.media_type)


@cache
def written(renderer_name: str) -> bytes:
    """The document in one format."""
    generator: Any = SpectacularAPIView.generator_class()
    renderer: Any = next(kind for kind in SpectacularAPIView.renderer_classes if kind.__name__ == renderer_name)
    return bytes(renderer().render(generator.get_schema(request=None, public=True), renderer_context={}))
