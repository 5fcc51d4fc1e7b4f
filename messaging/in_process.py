"""Deliver messages to the workers of this very process, where there is no RabbitMQ."""

from uuid import UUID

import dramatiq
from django.utils import timezone

from messaging import dead_messages, message_check
from messaging.dead_messages import DeadMessage
from messaging.envelope import Envelope


def deliver(envelope: Envelope) -> None:
    """Put a message into this process's memory, or record it as a dead letter if no worker accepts it.

    There is no dead-letter queue here. The relay's transaction has both the dead letter and the end of the message.
    """
    try:
        dramatiq.get_broker().enqueue(message_check.read_message(envelope.body, queue=envelope.routing_key))
    except message_check.InvalidMessage as refusal:
        dead = DeadMessage(
            body=envelope.body,
            queue=envelope.routing_key,
            cause=refusal.code,
            detail=refusal.detail,
            attempts=1,
            body_id=lambda: UUID(envelope.message_id),
        )
        dead_messages.record(dead, now=timezone.now())
