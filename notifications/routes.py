"""Which message takes a delivery of a channel on its way; the settings say to which queue and actor."""

from typing import Final

from notifications.models import Channel

TOPICS: Final = {
    Channel.EMAIL.value: "delivery.message",
    Channel.SMS.value: "delivery.message",
    Channel.WEBHOOK.value: "delivery.webhook",
}


def topic_of(channel: str) -> str:
    """The topic of a channel."""
    return TOPICS[channel]
