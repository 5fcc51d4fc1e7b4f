"""The gateways: whether the settings make sense, somebody listens at their address, and calls are let through."""

import socket
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from console.doctor.environment import place_of
from console.doctor.finding import Finding, failed, first_line, ok, warning
from merchants.models import Mode
from payments import breaker
from payments.gateways import registry
from payments.unmatched_charge import count_open

#: How long (s) we wait for a gateway to take a connection.
CONNECT_TIMEOUT: Final = 5.0
PORTS: Final = {"http": 80, "https": 443}


def configured() -> Iterator[Finding]:
    """Each gateway of the settings; and whether there is one for live payments."""
    for name, entry in settings.GATEWAYS.items():
        try:
            registry.get(name)
        except Exception as error:  # noqa: BLE001  # an adapter may raise whatever it likes
            mend = "Correct its entry in the setting GATEWAYS, or its variables in the environment."
            yield failed(f"gateway {name}", f"cannot be set up: {first_line(error)}", mend)
            continue
        yield reach(f"gateway {name}", str(entry["OPTIONS"].get("url", "")))
    if settings.ENV.production and registry.name_for(Mode.LIVE) is None:
        says = "none takes live payments: requests with a live key are answered by 503 no_live_gateway"
        yield warning("gateways", says, "Add one to the setting GATEWAYS.")


def reach(what: str, url: str) -> Finding:
    """Whether somebody takes a connection at its address; nothing is sent."""
    parts = urlsplit(url)
    if not parts.hostname:
        return failed(what, "has no address", "Set SANDBOX_URL, as in http://127.0.0.1:8200.")
    port = parts.port or PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        says = f"{place_of(url)} cannot be reached: {error.strerror or error}"
        return failed(what, says, "Start it (`python -m sandbox`), or correct SANDBOX_URL. Payments wait meanwhile.")
    return ok(what, f"{place_of(url)} takes connections")


def unmatched_charges() -> Iterator[Finding]:
    """Charges that no payment accounts for, and that wait for a decision of staff."""
    count = count_open()
    if count:
        mend = "See `manage.py unmatched_charge list` and docs/reconciliation.md."
        yield failed("unmatched charges", f"{count} at a gateway without a payment: money moved", mend)
    else:
        yield ok("unmatched charges", "none waits for a decision")


def held_up() -> Iterator[Finding]:
    """The breakers and switches that let no call through."""
    troubles = breaker.troubles(now=timezone.now())
    for name, state in troubles.items():
        yield warning(f"gateway {name}", str(state), "See `manage.py gateway status`; payments wait meanwhile.")
    if not troubles:
        yield ok("breakers", "all calls are let through")
