"""Who may see what we tell of ourselves: scrapers with the token, and on a developer's machine everybody."""

from secrets import compare_digest

from django.conf import settings
from django.http import HttpRequest


def may_look(request: HttpRequest) -> bool:
    """Whether metrics and the details of our health may be shown."""
    if not settings.METRICS_TOKEN:
        return not settings.ENV.production
    shown = request.headers.get("Authorization", "")
    return compare_digest(shown.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
