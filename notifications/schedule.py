"""When a delivery is tried again, and when no more."""

import random
from datetime import timedelta
from typing import Final

from notifications.models import Channel
from notifications.outcomes import Failed

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)

#: Waits after each failure of a webhook, in all three days: those of Standard Webhooks' example,
#: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
WEBHOOK: Final = (
    *(5 * SECOND, 5 * MINUTE, 30 * MINUTE),
    *(2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR),
)
#: The same of mail and SMS: soon, as a receipt is awaited; and for a day, as a mail server may be away for one.
MESSAGE: Final = (
    *(10 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(1 * HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 10 * HOUR),
)
#: How much longer a wait may become, so that what failed together does not come back together.
JITTER: Final = 0.1


def delays(channel: str) -> tuple[timedelta, ...]:
    """The waits of a channel."""
    return WEBHOOK if channel == Channel.WEBHOOK else MESSAGE


def next_delay(channel: str, tries: int, failure: Failed) -> timedelta | None:
    """How long to wait after so many tries, at least as long as the receiver asks; None: it was the last."""
    waits = delays(channel)
    if failure.final or tries > len(waits):
        return None
    wait = waits[tries - 1] * (1 + random.random() * JITTER)  # noqa: S311  # no secret  # nosec B311
    return max(wait, timedelta(seconds=failure.retry_after or 0))
