"""Answers for addresses that do not exist and for what breaks outside the API's views."""

from collections.abc import Mapping
from typing import Final

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from payments.problems import CONTENT_TYPE, GENERAL, Kind, problem

UNKNOWN_HOST: Final = "This service has no host of the name in `Host`. Use an address that the operator has given you."


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404, in the language of the asker: JSON below `/api`, a page elsewhere."""
    return answer(request, 404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return a 400, as for a Host that this service does not have."""
    return answer(request, 400, UNKNOWN_HOST if isinstance(exception, DisallowedHost) else "")


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return answer(request, 500)


def refuse_nul(request: HttpRequest) -> HttpResponse:
    """400 for what no text of ours can hold: PostgreSQL stores no NUL character."""
    kind = Kind("Invalid request", "Take the NUL character (%00) out of the address or of what you typed.")
    return render(request, "problem.html", {"code": "invalid_request", "kind": kind}, status=400)


def refuse(request: HttpRequest, status: int, detail: str, headers: Mapping[str, str]) -> HttpResponse:
    """Return a problem as JSON, whatever the address."""
    body = problem(request, status=status, detail=detail)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers=headers)


def answer(request: HttpRequest, status: int, detail: str = "") -> HttpResponse:
    """The problem as JSON or as a page."""
    code, kind = GENERAL[status]
    if detail:
        kind = Kind(kind.title, detail)
    if request.path.startswith("/api/"):
        body = problem(request if status != 400 else None, status=status, detail=kind.mend)
        return JsonResponse(body, status=status, content_type=CONTENT_TYPE)
    return render(request, "problem.html", {"code": code, "kind": kind}, status=status)
