"""The endpoint of a developer's listener: there while it listens, and gone afterwards."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from django.utils import timezone

from merchants.audit import Who, by_shell
from merchants.models import Merchant, Mode
from notifications import endpoints
from notifications.errors import EndpointExists
from notifications.models import WebhookEndpoint
from payments.management.who import runs_this

DESCRIPTION = "manage.py sandbox listen"


@contextmanager
def registered(*, merchant: Merchant, mode: Mode, url: str, event_types: Sequence[str]) -> Iterator[str]:
    """The secret of an endpoint at this URL, which is deleted at the end.

    Raises:
        TooManyEndpoints: see there.
    """
    sweep(merchant, mode, but=url)
    try:
        endpoint, secret = endpoints.create(
            merchant=merchant, mode=mode, url=url, event_types=event_types, description=DESCRIPTION, who=whoever()
        )
    except EndpointExists:
        endpoint, secret = take_over(merchant=merchant, mode=mode, url=url, event_types=event_types)
    try:
        yield secret
    finally:
        endpoints.delete(endpoint=endpoint, now=timezone.now(), who=whoever())


def sweep(merchant: Merchant, mode: Mode, *, but: str) -> None:
    """Delete what listeners have left that were killed: endpoints of theirs at which nobody listens any more."""
    for endpoint in endpoints.endpoints_of(merchant, mode).filter(description=DESCRIPTION).exclude(url=but):
        if not is_answered(endpoint.url):
            endpoints.delete(endpoint=endpoint, now=timezone.now(), who=whoever())


def whoever() -> Who:
    """The developer at the terminal."""
    return by_shell(runs_this())


def is_answered(url: str) -> bool:
    """Whether somebody takes connections there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1).close()
    except OSError:
        return False
    return True


def take_over(*, merchant: Merchant, mode: Mode, url: str, event_types: Sequence[str]) -> tuple[WebhookEndpoint, str]:
    """What a killed listener has left at this very URL: nobody else can be behind a port that we have just opened."""
    kind = WebhookEndpoint.Kind.REGISTERED
    left_over = endpoints.endpoints_of(merchant, mode).get(kind=kind, url=url)
    endpoints.change(endpoint=left_over, enabled=True, event_types=list(event_types), now=timezone.now(), who=whoever())
    return endpoints.rotate(endpoint=left_over, now=timezone.now(), who=whoever())
