"""One log line for each HTTP request."""

from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware

from config.logs import without_payer


class PathLoggingMiddleware(RequestMiddleware):
    """Logs requests by method and path: a query string holds what clients search for, such as payers."""

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """`GET /api/v1/payments`."""
        return f"{request.method} {without_payer(request.path)}"
