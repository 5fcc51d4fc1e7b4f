"""Who is told: whether mail and SMS can go out, the stored secrets can be read, and endpoints answer."""

import socket
from collections.abc import Iterator
from typing import Final

from django.conf import settings

from console.doctor.finding import Finding, ok, warning
from notifications import vault
from notifications.models import WebhookEndpoint

#: How long (s) we wait for the mail server to take a connection.
CONNECT_TIMEOUT: Final = 5.0
SMTP: Final = "django.core.mail.backends.smtp.EmailBackend"
#: Backends that send nothing to anybody.
FOR_TRYING: Final = frozenset({"console", "file"})


def mail() -> Iterator[Finding]:
    """Whether mail goes out, and to where."""
    name = next((name for name, path in settings.EMAIL_BACKENDS.items() if path == settings.EMAIL_BACKEND), "")
    if not settings.EMAIL_ON:
        yield off("mail", "EMAIL_BACKEND", "smtp or one of django-anymail's")
    elif settings.EMAIL_BACKEND == SMTP:
        yield reach()
    elif name in FOR_TRYING:
        yield tried_out("mail", "EMAIL_BACKEND", name)
    else:
        yield ok("mail", f"by {settings.EMAIL_BACKEND}")


def sms() -> Iterator[Finding]:
    """Whether SMS go out."""
    name = settings.ENV.sms_backend
    if settings.SMS_BACKEND is None:
        yield off("SMS", "SMS_BACKEND", "twilio")
    elif name in FOR_TRYING:
        yield tried_out("SMS", "SMS_BACKEND", name)
    else:
        yield ok("SMS", f"by {name}")


def off(what: str, variable: str, values: str) -> Finding:
    """Nobody is told; on a developer's machine that is nobody's loss."""
    if not settings.ENV.production:
        return ok(what, f"off: {variable}=off")
    return warning(
        what, "off: nobody is told this way, not even of a webhook endpoint that fails", f"Set {variable} to {values}."
    )


def tried_out(what: str, variable: str, name: str) -> Finding:
    """It looks as if it were sent."""
    if not settings.ENV.production:
        return ok(what, f"written to the {name}, sent to nobody")
    return warning(what, f"written to the {name} and sent to nobody", f"Set {variable} to one that sends.")


def reach() -> Finding:
    """Whether the mail server takes a connection; nothing is sent."""
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        socket.create_connection((settings.EMAIL_HOST, settings.EMAIL_PORT), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        says = f"{where} cannot be reached: {error.strerror or error}; mail waits meanwhile"
        return warning("mail", says, "Start the mail server, or correct EMAIL_HOST and EMAIL_PORT.")
    return ok("mail", f"by SMTP; {where} takes connections")


def secrets() -> Iterator[Finding]:
    """Whether ENCRYPTION_KEYS open what is stored: the oldest secret and the newest."""
    alive = WebhookEndpoint.objects.filter(deleted_at=None)
    found = [endpoint for endpoint in (alive.order_by("id").first(), alive.order_by("id").last()) if endpoint]
    if not found:
        yield ok("secrets", "none are stored")
        return
    try:
        for endpoint in found:
            vault.unlock(endpoint.secret)
    except vault.Locked:
        mend = (
            "Put the key of before back into ENCRYPTION_KEYS, behind the new one; then `manage.py reencrypt_secrets`."
        )
        yield warning("secrets", "ENCRYPTION_KEYS do not open those of webhook endpoints: no webhook goes out", mend)
    else:
        yield ok("secrets", "ENCRYPTION_KEYS open those of webhook endpoints")


def endpoints() -> Iterator[Finding]:
    """How many fail. That is the merchants' to mend; many at once are our own network."""
    enabled = WebhookEndpoint.objects.filter(deleted_at=None, enabled=True)
    failing, total = enabled.filter(failing_since__isnull=False).count(), enabled.count()
    if failing and failing * 2 > total:
        says = f"{failing} of {total} fail"
        yield warning(
            "webhook endpoints", says, "See whether this machine reaches the internet, and the console's list."
        )
    else:
        yield ok("webhook endpoints", f"{total} enabled, of which {failing} fail")
