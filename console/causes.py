"""What became of a dead letter, in plain words: what happened, and what to do next."""

from dataclasses import dataclass
from typing import Final

from messaging.models import DeadLetter
from payments.declines import ERRORS, support_for
from payments.problems import catalogue


@dataclass(frozen=True, slots=True)
class Words:
    """A cause for the one who has to decide: `happened` and `next`, one or two sentences each."""

    happened: str
    next: str


ASKED_FIRST: Final = "A replay asks the gateway first what became of the charge, so nobody pays twice."
SENDER: Final = "Tell its sender, who can send it anew once it is right; then discard this one."

#: What to do about a message that workers refuse.
REFUSED: Final = "Find out which program publishes to this queue and withdraw its permission. Discard the message."
#: The checks of `messaging.message_check` that say all that there is to say in the detail.
CHECKS: Final = (
    *("message_too_large", "fields_invalid", "wrong_queue", "arguments_invalid", "ids_invalid", "option_not_allowed"),
    *("option_invalid", "message_id_invalid", "timestamp_invalid"),
)

#: Cause -> words. Causes of RabbitMQ come from `messaging.collector`, those of payments from `payments.declines`,
#: those of deliveries from `notifications.attempts`, the others from messages that came from outside.
WORDS: Final[dict[str, Words]] = {
    "retries_exhausted": Words(
        "The gateway took the payment at none of the attempts.",
        f"Replay it when the gateway works again. {ASKED_FIRST}",
    ),
    "expired": Words(
        "The payment waited so long for its gateway that it was given up.",
        f"Ask whether it is still wanted; then replay it, or discard the letter. {ASKED_FIRST}",
    ),
    "outcome_unknown": Words(
        "Nobody knows whether the gateway made the charge.",
        f"Look at the payment first; never charge it by hand. {ASKED_FIRST}",
    ),
    "delivery_limit": Words(
        "The message was handed out again and again and never acknowledged: it may kill its process each time.",
        "Look for a crash in the worker's log at these times and have it mended before a replay.",
    ),
    "rejected": Words(
        "A worker gave the message up and could not store why.",
        "The worker's log tells more at these times. Replay when the cause is mended.",
    ),
    "undecodable": Words("The message's body cannot be read; workers refuse such a message.", REFUSED),
    "unknown_actor": Words(
        "The message is for an actor that this release does not have, or that reads another queue.",
        "If it is from a newer release, replay it once all workers run that release; otherwise discard it.",
    ),
    "given_up": Words(
        "RabbitMQ gave the message up for a reason of its own; the detail names it.",
        "See whether a queue has a limit on length or age that is not ours. Replay when that is mended.",
    ),
    "not_json": Words("A message from outside is no JSON.", SENDER),
    "too_large": Words("A message from outside is larger than any payment needs.", SENDER),
    "invalid": Words("A message from outside breaks the rules; the detail names the fields.", SENDER),
    "merchant_unknown": Words(
        "A message from outside names a merchant that we do not have.",
        "Create the merchant and replay; or, if the name is wrong, tell the sender and discard.",
    ),
    "idempotency_key_reused": Words(
        "A message from outside uses the idempotency key of another request, with other values. It was not charged.",
        "Ask the sender which of the two was meant. A replay is refused again: a new payment needs a new key.",
    ),
    "order_payment_active": Words(
        "When the message came, another payment for its order was under way.",
        "If that one has failed since, replay; if it has succeeded, discard.",
    ),
    "order_already_paid": Words("The message's order is paid already.", "Discard it; a replay is refused again."),
    "no_live_gateway": Words(
        "A live payment was asked for, and no gateway for live payments is configured.",
        "Configure one and replay; or have the sender use test mode.",
    ),
    "delivery_exhausted": Words(
        "Somebody was to be told of an event, and no attempt reached them.",
        "See what the delivery's attempts met. Replay when the receiver is well again: it keeps its event id.",
    ),
    "delivery_refused": Words(
        "Somebody was to be told of an event, and the receiver refused it for good.",
        "Mend what the detail names (an address that does not exist, for one). Replay then, or discard.",
    ),
    **dict.fromkeys(
        CHECKS,
        Words("No relay of this release publishes such a message; the detail names the check it fails.", REFUSED),
    ),
}
#: A defect, or a part that was away: causes are then names of exceptions.
DEFECT: Final = Words(
    "Our own code failed at it each time: a defect, or a part of the system that was away.",
    "Show detail and traceback to a developer. Replay when the cause is mended: a replay of a defect dies again.",
)


def words_for(cause: str) -> Words:
    """What a cause means."""
    words = WORDS.get(cause)
    if words is None and cause in catalogue():
        return Words(f"A message from outside was refused: {catalogue()[cause].mend}", SENDER)
    if words is None:
        return DEFECT
    if cause in ERRORS:
        return Words(f"{words.happened} {support_for(cause, '')}", words.next)
    return words


def next_for(letter: DeadLetter) -> str:
    """What to do about a letter, which may be settled already."""
    if letter.state == DeadLetter.State.OPEN:
        return words_for(letter.cause).next
    return {
        DeadLetter.State.REPLAYED: "Nothing: it was sent out again. Should that die too, it is a letter of its own.",
        DeadLetter.State.DISCARDED: "Nothing: somebody decided that it is not needed.",
        DeadLetter.State.SUPERSEDED: "Nothing: what it concerns was settled by another way.",
    }[DeadLetter.State(letter.state)]
