"""How the gateway misbehaves at large: settings that can be changed while it runs."""

import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from sandbox.behaviours import BEHAVIOURS

#: The payment method whose charges may meet with a fault; all others behave as their name says.
FAULTY_METHOD: Final = "pm_ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One state of all settings; the defaults are a gateway without faults.

    `latency`: seconds before every answer of a charge or a look-up; the decision is on disk by then.
    `mended`: payment methods whose charges behave as those with `pm_ok`: what was down is up again.
    `faults`: magic payment method -> the probability that a charge with `pm_ok` behaves as if paid with it.
    `seed`: where the draws of faults begin; to set it, even to what it is, is to begin anew.
    `forget_keys`: a second charge under a key is a second charge. Look-ups go on finding the first.
    `refund_fault`: the magic payment method by which every refund misbehaves; empty: none.
    `webhook_delay`: seconds from a decision to its webhook.
    `webhook_copies`: how many times each webhook is sent.
    `webhook_shuffle`: when a webhook is due, any of those that wait for their first sending goes out, so that
    some overtake others; one may go out before its delay is over.
    """

    latency: float = 0.0
    mended: Sequence[str] = field(default_factory=list)
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    forget_keys: bool = False
    refund_fault: str = ""
    webhook_delay: float = 0.0
    webhook_copies: int = 1
    webhook_shuffle: bool = False


class SettingInvalid(ValueError):
    """A setting that does not exist, or that cannot have this value; the message says the mend."""


class LiveSettings:
    """The settings of the moment, and the draws that depend on them. Thread-safe."""

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        """Begin with the defaults, changed by `document`. Raises SettingInvalid."""
        self._lock = threading.Lock()
        self.current = Settings()
        self._begin_draws()
        self.change(document or {})

    def change(self, document: Mapping[str, Any]) -> Settings:
        """Apply all of the changes, or none.

        Raises:
            SettingInvalid: one of them is wrong.
        """
        for name, value in document.items():
            check(name, value)
        with self._lock:
            self.current = replace(self.current, **document)
            if "seed" in document:
                self._begin_draws()
            return self.current

    def reset(self) -> Settings:
        """Back to the defaults."""
        with self._lock:
            self.current = Settings()
            self._begin_draws()
            return self.current

    def shown(self) -> dict[str, Any]:
        """The settings as `GET /settings` shows them."""
        return asdict(self.current)

    def drawn(self, method: str) -> str:
        """The method that a charge with `method` behaves as, this time."""
        with self._lock:
            faults = self.current.faults
            method = FAULTY_METHOD if method in self.current.mended else method
            if method != FAULTY_METHOD or not faults:
                return method
            return draw(faults, self._faults.random()) or method

    def pick(self, count: int) -> int:
        """Any number below `count`."""
        with self._lock:
            return self._order.randrange(count)

    def _begin_draws(self) -> None:
        # Two of them: how many webhooks happen to wait shall not change which charges fail.
        self._faults = random.Random(self.current.seed)  # noqa: S311  # to be repeated, not secret  # nosec B311
        self._order = random.Random(self.current.seed)  # noqa: S311  # nosec B311


def draw(faults: Mapping[str, float], point: float) -> str | None:
    """The fault on which a point from 0 to 1 falls, if it falls on one."""
    for name, probability in faults.items():
        point -= probability
        if point < 0:
            return name
    return None


def check(name: str, value: object) -> None:
    """Raise SettingInvalid unless the setting exists and may have this value."""
    if name not in CHECKS:
        raise SettingInvalid(f"There is no setting {name!r}; there are {', '.join(CHECKS)}.")
    what, is_valid = CHECKS[name]
    if not is_valid(value):
        raise SettingInvalid(f"{name} is {str(value)[:200]!r}; it must be {what}.")


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is a number in the range; a boolean is none, and NaN is in no range."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_integer(value: object) -> bool:
    """Whether it is a whole number; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_faults(value: object) -> bool:
    """Whether it is an object of known payment methods and probabilities, which may sum up to 1."""
    if not isinstance(value, dict) or not value.keys() <= BEHAVIOURS.keys():
        return False
    if not all(is_number(probability, 0, 1) for probability in value.values()):
        return False
    return math.fsum(value.values()) <= 1 + 1e-9  # ten times 0.1 is 1 and a little


def are_methods(value: object) -> bool:
    """Whether it is a list of known payment methods."""
    return isinstance(value, list) and all(isinstance(name, str) and name in BEHAVIOURS for name in value)


#: Setting -> what it must be, in words, and whether a value is that.
CHECKS: Final[dict[str, tuple[str, Callable[[object], bool]]]] = {
    "latency": ("a number of seconds from 0 to 120", lambda value: is_number(value, 0, 120)),
    "faults": (
        f"an object of probabilities that sum up to 1 at most, by payment method ({', '.join(BEHAVIOURS)})",
        are_faults,
    ),
    "mended": (f"a list of payment methods ({', '.join(BEHAVIOURS)})", are_methods),
    "seed": ("a whole number", is_integer),
    "forget_keys": ("true or false", lambda value: isinstance(value, bool)),
    "refund_fault": (
        f"a payment method ({', '.join(BEHAVIOURS)}), or empty",
        lambda value: isinstance(value, str) and value in {"", *BEHAVIOURS},
    ),
    "webhook_delay": ("a number of seconds from 0 to 3600", lambda value: is_number(value, 0, 3600)),
    "webhook_copies": (
        "a whole number from 1 to 5",
        lambda value: is_integer(value) and is_number(value, 1, 5),
    ),
    "webhook_shuffle": ("true or false", lambda value: isinstance(value, bool)),
}
