"""What the environment made of us: the mode, what it points to, and the files that the image should have."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import Warning as CheckWarning
from django.core.checks import run_checks

from console.doctor.finding import Finding, failed, ok, warning

#: What `collectstatic` writes last, with Django's manifest storage.
MANIFEST: Final = "staticfiles.json"


def settings_in_force() -> Iterator[Finding]:
    """They are complete, or we would not be here; in production Django's own checks of them, too."""
    where = f"PostgreSQL at {place_of(settings.ENV.database_url)}"
    if settings.ENV.rabbitmq_url:
        where += f", RabbitMQ at {place_of(settings.ENV.rabbitmq_url)}"
    if not settings.ENV.production:
        yield ok("settings", f"development, not for real money; {where}")
        return
    yield ok("settings", f"production; {where}")
    if not settings.ENV.behind_tls_proxy:
        says = "BEHIND_TLS_PROXY is off: every plain request is sent to https, for ever where a proxy ends TLS"
        yield warning("settings", says, "Set BEHIND_TLS_PROXY=true if such a proxy stands before the web process.")
    for message in run_checks(include_deployment_checks=True):
        if message.level >= CheckWarning("").level and not message.is_silenced():
            yield warning("settings", f"{message.id}: {message.msg}", message.hint or "See `manage.py check --deploy`.")


def static_files() -> Iterator[Finding]:
    """In production, style sheets are served from a manifest; without it, every page of the console is a 500."""
    if not settings.ENV.production:
        yield ok("static files", "served from where they lie")
        return
    manifest = Path(str(settings.STATIC_ROOT)) / MANIFEST
    if manifest.is_file():
        yield ok("static files", f"collected in {settings.STATIC_ROOT}")
    else:
        says = f"{manifest} is missing: every page of the console fails"
        yield failed("static files", says, "Run `manage.py collectstatic --no-input`; the image does so when built.")


def place_of(url: str) -> str:
    """Host, port and path of a URL; who connects, and with which password, is nobody's business."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or 'localhost'}{port}{parts.path}"
