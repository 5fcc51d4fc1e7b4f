"""From an event to its deliveries: one for each recipient, however often it is told of the event."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from messaging import outbox
from notifications.audience import Book, Recipient
from notifications.models import Channel, Delivery
from notifications.routes import topic_of
from payments.reads import Happening, happenings

#: A disabled endpoint's deliveries are written all the same, so that they can be delivered once it is enabled.
DISABLED: Final = "the endpoint is disabled"

#: Rows in one statement: PostgreSQL takes 65,535 parameters, and a delivery has two dozen columns.
ROWS_AT_ONCE: Final = 1_000


def take(event_ids: Sequence[UUID]) -> None:
    """Write the deliveries of these events and stage them, in the caller's transaction."""
    now = timezone.now()
    events = happenings(event_ids)
    book = Book.of(events)
    deliveries = [build(event, recipient, now=now) for event in events for recipient in book.recipients(event)]
    Delivery.objects.bulk_create(deliveries, batch_size=ROWS_AT_ONCE, ignore_conflicts=True)
    stage(deliveries)


def build(event: Happening, recipient: Recipient, *, now: datetime) -> Delivery:
    """The delivery of an event to a recipient; not saved."""
    delivery = Delivery(
        merchant_id=event.merchant_id,
        mode=event.mode,
        event_id=event.event_id,
        event_type=event.type,
        payment_id=event.payment_id,
        channel=recipient.channel,
        audience=recipient.audience,
        recipient=recipient.address,
        endpoint=recipient.endpoint,
        language=recipient.language,
        occurred_at=event.occurred_at,
        request_id=event.request_id,
        next_attempt_at=now,
        revive_at=now + timedelta(seconds=settings.REVIVE_AFTER),
    )
    if recipient.endpoint is not None and not recipient.endpoint.enabled:
        delivery.state, delivery.note, delivery.finished_at = Delivery.State.CANCELED, DISABLED, now
        delivery.next_attempt_at = delivery.revive_at = None
    return delivery


def stage(deliveries: Iterable[Delivery]) -> None:
    """Have them sent. One that was not written, because it was there already, is a message about nothing."""
    for channel in Channel:
        pending = [it for it in deliveries if it.channel == channel and it.state == Delivery.State.PENDING]
        if pending:
            outbox.stage_many(topic_of(channel), [({"ids": [str(it.pk)]}, it.request_id) for it in pending])
