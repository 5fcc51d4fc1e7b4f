"""What becomes of a delivery, in plain words: what happened, and what comes next."""

from datetime import datetime
from typing import Final

from notifications.models import Channel, Delivery, WebhookEndpoint
from notifications.schedule import delays

#: Who has taken it, when it is delivered: of mail and SMS we hear no more than that.
TAKEN_BY: Final = {
    Channel.EMAIL.value: "The mail server",
    Channel.SMS.value: "The SMS provider",
    Channel.WEBHOOK.value: "The receiver",
}


#: How an endpoint does, and the word for it.
HEALTH: Final = {"ok": "OK", "new": "New", "failing": "Failing", "disabled": "Disabled", "deleted": "Deleted"}


def happened(delivery: Delivery, *, now: datetime) -> str:
    """The story so far."""
    tried = times(delivery.tries)
    match delivery.state:
        case Delivery.State.DELIVERED:
            return f"{TAKEN_BY[delivery.channel]} took it{at(delivery.finished_at)}, having been asked {tried}."
        case Delivery.State.FAILED:
            return f"It was given up{at(delivery.finished_at)}, tried {tried}. {sentence(delivery.note)}"
        case Delivery.State.CANCELED:
            return f"It is not sent: {sentence(delivery.note, capital=False)}"
    if is_being_sent(delivery, now=now):
        return f"It is being sent at this moment, for the {ordinal(delivery.tries)} time."
    if not delivery.tries:
        return "It waits for its first attempt."
    return f"It was tried {tried} and not taken. {sentence(delivery.note)}"


def comes_next(delivery: Delivery, *, now: datetime) -> str:
    """What happens by itself, or what somebody has to do."""
    if delivery.endpoint is not None and delivery.endpoint.deleted_at:
        return "Nothing: its webhook endpoint is deleted."
    match delivery.state:
        case Delivery.State.DELIVERED:
            return "Nothing. If the recipient misses it all the same, redeliver it: it keeps its event id."
        case Delivery.State.FAILED:
            return (
                "Nothing by itself. Mend the cause, then redeliver it here or replay its dead letter: it is the same."
            )
        case Delivery.State.CANCELED:
            return "Nothing by itself. Enable the endpoint, then redeliver what it missed."
    left = len(delays(delivery.channel)) + 1 - delivery.tries
    if is_being_sent(delivery, now=now):
        return f"If that fails, {left} more attempts follow." if left > 0 else "That was the last attempt."
    due = "as soon as somebody is free" if is_due(delivery, now=now) else f"{at(delivery.next_attempt_at).strip()}"
    return f"The next attempt is made {due}; attempts left: {left}."


def health_of(endpoint: WebhookEndpoint) -> tuple[str, str]:
    """How an endpoint does: a state for its badge, and why."""
    if endpoint.deleted_at:
        return "deleted", f"deleted{at(endpoint.deleted_at)}"
    if not endpoint.enabled:
        return "disabled", endpoint.disabled_reason
    if endpoint.failing_since:
        return "failing", f"every call has failed since {moment(endpoint.failing_since)}"
    if endpoint.last_success_at is None:
        return "new", "never called with success so far"
    return "ok", f"last success{at(endpoint.last_success_at)}"


def is_being_sent(delivery: Delivery, *, now: datetime) -> bool:
    """Whether a worker has it in hand."""
    return delivery.lease_expires_at is not None and delivery.lease_expires_at > now


def is_due(delivery: Delivery, *, now: datetime) -> bool:
    """Whether its time has come."""
    return delivery.next_attempt_at is None or delivery.next_attempt_at <= now


def at(time: datetime | None) -> str:
    """When, after a word."""
    return f" at {moment(time)}" if time else ""


def moment(time: datetime) -> str:
    """To the second."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count} times"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    last = "th" if number % 100 in range(11, 14) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"


def sentence(words: str, *, capital: bool = True) -> str:
    """A note as a sentence."""
    if not words:
        return "No reason was kept."
    first = words[0].upper() if capital else words[0]
    return f"{first}{words[1:].rstrip('.')}."
