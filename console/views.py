"""The front door."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect


def home(_request: HttpRequest) -> HttpResponse:
    """People who come to the bare address want the console."""
    return redirect("admin:index")
