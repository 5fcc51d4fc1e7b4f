"""Django's own request within one of the API: middleware, django-axes and the limits leave their marks on that one."""

from typing import Any

from django.http import HttpRequest


def plain(request: Any) -> HttpRequest:
    """The request as the middleware sees it, of Django's own or of Django REST framework's, which holds one."""
    own: HttpRequest = request if isinstance(request, HttpRequest) else request._request  # noqa: SLF001  # its documented way
    return own
