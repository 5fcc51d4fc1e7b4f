"""Django's own request within one of the API: middleware, django-axes and the limits leave their marks on that one."""

from django.http import HttpRequest
from rest_framework.request import Request


def plain(request: HttpRequest | Request) -> HttpRequest:
    """The request as the middleware sees it."""
    return request._request if isinstance(request, Request) else request  # noqa: SLF001  # its documented way
