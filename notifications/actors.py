"""What RabbitMQ calls in this room."""

from uuid import UUID

import dramatiq
from django.db import transaction

from messaging.escapes import each
from notifications import attempts, fan_out, messages
from notifications.webhooks.dispatch import Drain, shared_dispatch

# Where there are actors, there are calls to end.
dramatiq.get_broker().add_middleware(Drain())


@dramatiq.actor(queue_name="notifications")
def fan_out_events(ids: list[str]) -> None:
    """Write the deliveries of events that could not be taken from the outbox."""
    with transaction.atomic(durable=True):
        fan_out.take([UUID(id_) for id_ in ids])


@dramatiq.actor(queue_name="notifications")
def send_messages(ids: list[str]) -> None:
    """Make one attempt at each of these deliveries by mail or SMS."""
    each(ids, lambda delivery_id: messages.deliver(UUID(delivery_id)))


@dramatiq.actor(queue_name="webhooks")
def call_webhooks(ids: list[str]) -> None:
    """Begin the calls that are due to the endpoints of these deliveries."""
    for endpoint_id in attempts.endpoints_behind([UUID(id_) for id_ in ids]):
        shared_dispatch().work_off(endpoint_id)
