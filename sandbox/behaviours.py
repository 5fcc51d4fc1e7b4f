"""The magic payment methods: what the gateway does with a charge, as data."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What happens to a charge.

    `decline_code`: it is declined with it. `unavailable_times`: so many 503s before anything is decided, -1
    for always. `never_answers`: the decision is taken, and the connection says nothing.
    """

    decline_code: str | None = None
    unavailable_times: int = 0
    never_answers: bool = False


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "pm_ok": Behaviour(),
    "pm_declined": Behaviour(decline_code="card_declined"),
    "pm_flaky_2": Behaviour(unavailable_times=2),
    "pm_down": Behaviour(unavailable_times=-1),
    "pm_timeout_charged": Behaviour(never_answers=True),
}
