"""Which gateway a payment goes to, from the setting `GATEWAYS`."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from merchants.models import Mode
from payments.breaker import Limits
from payments.gateways.base import Gateway


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
    """The gateway of that name. Raises KeyError when the settings have none."""
    entry = settings.GATEWAYS[name]
    return ConfiguredGateway(
        name=name,
        adapter=import_string(entry["BACKEND"])(**entry["OPTIONS"]),
        deadline=entry["DEADLINE"],
        lease=timedelta(seconds=entry["LEASE"]),
        retry_delays=tuple(entry["RETRY_DELAYS"]),
        max_age=timedelta(seconds=entry["MAX_AGE"]),
        breaker=Limits(**{name.lower(): value for name, value in entry["BREAKER"].items()}),
    )


def name_for(mode: Mode) -> str | None:
    """The gateway that takes payments of this mode, or None."""
    return next((name for name, entry in settings.GATEWAYS.items() if entry["MODE"] == mode.value), None)
