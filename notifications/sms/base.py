"""What carries an SMS: the interface of its backends, and the one that is configured."""

from functools import cache
from typing import Any, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from notifications.outcomes import Result


class SmsBackend(Protocol):
    """Hands one text to whoever carries it."""

    def send(self, *, to: str, text: str) -> Result:
        """What came of it. Never raises for what the world does, and tells neither number nor text.

        `to` is in E.164; `text` fits one segment (`notifications.texts`).
        """


def configured() -> SmsBackend | None:
    """The backend of the setting `SMS_BACKEND`, or None: then nobody is told by SMS."""
    if settings.SMS_BACKEND is None:
        return None
    dotted, options = settings.SMS_BACKEND
    return made(dotted, tuple(sorted(options.items())))


@cache
def made(dotted: str, options: tuple[tuple[str, Any], ...]) -> SmsBackend:
    """One instance for each configuration that this process has seen."""
    backend: SmsBackend = import_string(dotted)(**dict(options))
    return backend
