"""The magic payment methods: what the gateway does with a charge, as data."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: More requests than anybody will send under one key.
ALWAYS: Final = sys.maxsize


class Trouble(StrEnum):
    """What can come in place of a proper answer."""

    UNAVAILABLE = "a 503"
    RATE_LIMITED = "a 429 with Retry-After"
    SILENCE = "nothing, on an open connection"
    RESET = "a reset of the connection, without a byte"
    RESET_WITHIN = "a reset of the connection, in the middle of the answer"
    ERROR_PAGE = "a 500 in HTML"
    GARBAGE = "a 200 that is no JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What happens to a charge.

    `before`: the trouble that the first `before_times` requests under a key run into; nothing is decided then.
    `latency`: seconds between the decision and its answer.
    `decline_code`: it is a decline, with this code.
    `after`: the decision is taken, and this comes in place of its answer. A gateway in such trouble sends no
    webhook either.
    `repeats_webhook`: its webhook comes twice, with an outdated one in between.
    """

    before: Trouble | None = None
    before_times: int = 1
    latency: float = 0.0
    decline_code: str | None = None
    after: Trouble | None = None
    repeats_webhook: bool = False

    def trouble_before(self, request: int) -> Trouble | None:
        """What keeps the n-th request under a key from being decided."""
        return self.before if request <= self.before_times else None


BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "pm_ok": Behaviour(),
    "pm_declined": Behaviour(decline_code="card_declined"),
    "pm_insufficient_funds": Behaviour(decline_code="insufficient_funds"),
    "pm_expired_card": Behaviour(decline_code="expired_card"),
    "pm_flaky_2": Behaviour(before=Trouble.UNAVAILABLE, before_times=2),
    "pm_down": Behaviour(before=Trouble.UNAVAILABLE, before_times=ALWAYS),
    "pm_rate_limited": Behaviour(before=Trouble.RATE_LIMITED),
    "pm_timeout_charged": Behaviour(after=Trouble.SILENCE),
    "pm_timeout_not_charged": Behaviour(before=Trouble.SILENCE),
    "pm_reset": Behaviour(after=Trouble.RESET),
    "pm_reset_before": Behaviour(before=Trouble.RESET),
    "pm_reset_within": Behaviour(after=Trouble.RESET_WITHIN),
    "pm_error_500": Behaviour(after=Trouble.ERROR_PAGE),
    "pm_garbage": Behaviour(after=Trouble.GARBAGE),
    "pm_slow": Behaviour(latency=3.0),
    "pm_duplicate_webhook": Behaviour(repeats_webhook=True),
}
