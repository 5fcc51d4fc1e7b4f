"""What waits in the outbox: messages to our own queues, or events for other systems."""

from django.db.models import QuerySet

from messaging.models import OutboxMessage


def work() -> QuerySet[OutboxMessage]:
    """The messages to our own queues."""
    return OutboxMessage.objects.filter(exchange="")


def announcements() -> QuerySet[OutboxMessage]:
    """The events, in the order of their writing."""
    return OutboxMessage.objects.exclude(exchange="").order_by("id")
