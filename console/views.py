"""The front door."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect


def home(_request: HttpRequest) -> HttpResponse:
    """People who come to the bare address want the console."""
    return redirect("admin:index")


def nothing_there(_request: HttpRequest, rest: str) -> HttpResponse:
    """For addresses that a library brings along and that lead nowhere here."""
    raise Http404
