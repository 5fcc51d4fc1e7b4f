"""Which gateway a payment goes to, from the setting `GATEWAYS`."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from merchants.models import Mode
from payments.breaker import Limits
from payments.gateways.base import Gateway
from payments.idempotency import KEPT_FOR


@dataclass(frozen=True, slots=True)
class ConfiguredGateway:
    """An adapter with the numbers it is run by; see the setting for their meaning."""

    name: str
    adapter: Gateway
    deadline: float
    lease: timedelta
    retry_delays: tuple[float, ...]
    max_age: timedelta
    breaker: Limits


@cache
def get(name: str) -> ConfiguredGateway:
    """The gateway of that name.

    Raises:
        KeyError: the settings have none.
        ImproperlyConfigured: it recognises keys for longer than clients' keys are kept. A key that is used again
            after it was pruned would get the old charge in place of a new one (docs/adr/0032).
    """
    entry = settings.GATEWAYS[name]
    adapter: Gateway = import_string(entry["BACKEND"])(**entry["OPTIONS"])
    if adapter.key_window > KEPT_FOR:
        raise ImproperlyConfigured(
            f"Gateway {name} recognises idempotency keys for {adapter.key_window.days} days, longer than the"
            f" {KEPT_FOR.days} days for which clients' keys are kept: raise payments.idempotency.KEPT_FOR."
        )
    return ConfiguredGateway(
        name=name,
        adapter=adapter,
        deadline=entry["DEADLINE"],
        lease=timedelta(seconds=entry["LEASE"]),
        retry_delays=tuple(entry["RETRY_DELAYS"]),
        max_age=timedelta(seconds=entry["MAX_AGE"]),
        breaker=Limits(**{name.lower(): value for name, value in entry["BREAKER"].items()}),
    )


def name_for(mode: Mode) -> str | None:
    """The gateway that takes payments of this mode, or None."""
    return next((name for name, entry in settings.GATEWAYS.items() if entry["MODE"] == mode.value), None)
