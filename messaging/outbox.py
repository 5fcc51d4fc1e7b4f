"""Step 1's last act: put a message into the outbox, in the transaction of the change it speaks of.

Either both are committed or neither: no message without its cause, no cause without its message.
The relay publishes it from there.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction

from messaging.models import OutboxMessage

#: How long the messages for a room are kept that takes no events any more: a release that is rolled back may bring
#: the room back within that time.
LEFTOVERS_KEPT_FOR: Final = timedelta(days=30)


def stage(
    topic: str,
    payload: Mapping[str, Any],
    *,
    request_id: str = "",
    available_at: datetime | None = None,
) -> None:
    """Stage one message; `topic` is a key of the setting `MESSAGE_ROUTES`.

    Without `available_at` it is published at once, else not before that time.
    """
    stage_many(topic, [(payload, request_id)], available_at=available_at)


def stage_many(
    topic: str,
    messages: Iterable[tuple[Mapping[str, Any], str]],
    *,
    available_at: datetime | None = None,
) -> None:
    """Stage several messages (payload, request id) of one topic in one statement."""
    assert transaction.get_connection().in_atomic_block, "stage() belongs into the transaction of its cause"
    queue, actor = settings.MESSAGE_ROUTES[topic]
    when = {} if available_at is None else {"available_at": available_at}
    OutboxMessage.objects.bulk_create(
        OutboxMessage(
            queue=queue, actor=actor, payload=dict(payload), waits=may_wait(queue), request_id=request_id, **when
        )
        for payload, request_id in messages
    )


def announce(kind: str, body: bytes, *, event_id: UUID, content_type: str, request_id: str = "") -> None:
    """Stage one event, in the transaction of its change: for the topic exchange, where `kind` is its routing key, and
    for each room of ours that subscribes to events.
    """
    assert transaction.get_connection().in_atomic_block, "announce() belongs into the transaction of its cause"
    announcement = OutboxMessage(
        message_id=event_id,
        exchange=settings.EVENTS_EXCHANGE,
        queue=kind,
        body=body,
        request_id=request_id,
        options={"content_type": content_type},
    )
    OutboxMessage.objects.bulk_create([announcement, *for_subscribers(event_id, request_id)])


#: Part of a larger statement: stages messages together with their causes. Its parameter `messages` is the JSON of rows
#: that `announced` and `due` have made, each with what it is `about`; only those are staged that `begun` has the id of.
STAGED: Final = """
    staged AS (
        INSERT INTO messaging_outboxmessage
            (message_id, exchange, queue, actor, payload, body, subscriber, waits, request_id, options, returns)
        SELECT
            message.message_id, message.exchange, message.queue, message.actor, message.payload,
            convert_to(message.body, 'UTF8'), message.subscriber, message.waits, message.request_id, message.options, 0
        FROM json_to_recordset(%(messages)s) AS message (
            about uuid, message_id uuid, exchange text, queue text, actor text, payload jsonb,
            body text, subscriber text, waits boolean, request_id text, options jsonb
        )
        JOIN begun ON begun.id = message.about
    )
"""


def row(about: UUID, *, queue: str, request_id: str, **columns: Any) -> dict[str, Any]:
    """A message for `STAGED`."""
    empty: dict[str, Any] = {
        "exchange": "",
        "actor": "",
        "payload": {},
        "body": None,
        "subscriber": "",
        "waits": False,
        "options": {},
    }
    return {**empty, "about": about, "message_id": uuid4(), "queue": queue, "request_id": request_id, **columns}


def due(topic: str, payload: Mapping[str, Any], *, about: UUID, request_id: str) -> dict[str, Any]:
    """As `stage`, for `STAGED`."""
    queue, actor = settings.MESSAGE_ROUTES[topic]
    return row(about, queue=queue, actor=actor, payload=payload, waits=may_wait(queue), request_id=request_id)


def announced(
    kind: str, body: bytes, *, event_id: UUID, content_type: str, about: UUID, request_id: str
) -> Iterator[dict[str, Any]]:
    """As `announce`, for `STAGED`."""
    yield row(
        about,
        message_id=event_id,
        exchange=settings.EVENTS_EXCHANGE,
        queue=kind,
        body=body.decode(),
        request_id=request_id,
        options={"content_type": content_type},
    )
    for subscriber, (topic, _) in settings.EVENT_SUBSCRIBERS.items():
        yield {**due(topic, {"ids": [str(event_id)]}, about=about, request_id=request_id), "subscriber": subscriber}


def may_wait(queue: str) -> bool:
    """Whether messages to a queue may wait, so that its trouble holds up nobody else."""
    return queue in settings.PATIENT_QUEUES


def for_subscribers(event_id: UUID, request_id: str) -> Iterator[OutboxMessage]:
    """A row for each room that subscribes; it is a message to an actor as well, for when the room cannot take it."""
    for subscriber, (topic, _) in settings.EVENT_SUBSCRIBERS.items():
        queue, actor = settings.MESSAGE_ROUTES[topic]
        yield OutboxMessage(
            subscriber=subscriber,
            queue=queue,
            actor=actor,
            payload={"ids": [str(event_id)]},
            waits=may_wait(queue),
            request_id=request_id,
        )


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of events that were staged before a time for a room which subscribes no more; returns how many.

    All other messages stay until they are delivered, however long that takes.
    """
    orphaned = OutboxMessage.objects.exclude(subscriber="").exclude(subscriber__in=list(settings.EVENT_SUBSCRIBERS))
    old = orphaned.filter(created_at__lt=before).order_by("id").values("pk")[:batch]
    return OutboxMessage.objects.filter(pk__in=old).delete()[0]
