"""What waits in the outbox: messages to our own queues, events for other systems, or events for our own rooms."""

from django.db.models import QuerySet

from messaging import outbox, records
from messaging.models import OutboxMessage
from messaging.outbox import Announcement


def work() -> QuerySet[OutboxMessage]:
    """The messages to our own queues."""
    return OutboxMessage.objects.filter(exchange="", subscriber="")


def announcements() -> QuerySet[OutboxMessage]:
    """The events, in the order of their writing."""
    return OutboxMessage.objects.exclude(exchange="").order_by("id")


def subscribed() -> QuerySet[OutboxMessage]:
    """The events that a room of ours takes."""
    return OutboxMessage.objects.exclude(subscriber="").order_by("id")


def announce(*announcements: Announcement) -> None:
    """Stage events that no payment has a part in."""
    records.insert(OutboxMessage, [row for each in announcements for row in outbox.rows_of(each)])
