"""Step 1's last act: put a message into the outbox, in the transaction of the change it speaks of.

Either both are committed or neither: no message without its cause, no cause without its message.
The relay publishes it from there.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from messaging import records
from messaging.models import OutboxMessage

#: A message that says nothing; all of them have the same columns.
NOTHING: Final[Mapping[str, Any]] = {
    "exchange": "",
    "queue": "",
    "actor": "",
    "payload": {},
    "body": None,
    "subscriber": "",
    "waits": False,
    "request_id": "",
    "options": {},
    "returns": 0,
}
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
    when = {} if available_at is None else {"available_at": available_at}
    rows = [row(**to_actor(topic, payload), request_id=request_id, **when) for payload, request_id in messages]
    records.insert(OutboxMessage, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One event for whoever listens; on the topic exchange `kind` is its routing key."""

    kind: str
    event_id: UUID
    body: bytes
    content_type: str
    request_id: str = ""


def rows_of(announcement: Announcement) -> Iterator[dict[str, Any]]:
    """Where an event goes: to the exchange, and to each room that subscribes. For a room it is a message to an actor
    as well, for when the room cannot take it.
    """
    yield row(
        message_id=announcement.event_id,
        exchange=settings.EVENTS_EXCHANGE,
        queue=announcement.kind,
        body=announcement.body,
        request_id=announcement.request_id,
        options={"content_type": announcement.content_type},
    )
    for subscriber, (topic, _) in settings.EVENT_SUBSCRIBERS.items():
        message = to_actor(topic, {"ids": [str(announcement.event_id)]})
        yield row(**message, subscriber=subscriber, request_id=announcement.request_id)


def to_actor(topic: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a row a message to the actor of a topic."""
    queue, actor = settings.MESSAGE_ROUTES[topic]
    return {"queue": queue, "actor": actor, "payload": dict(payload), "waits": may_wait(queue)}


def row(**values: Any) -> dict[str, Any]:
    """A row of the outbox with its own id, and with nothing where nothing is said."""
    return {"message_id": uuid.uuid4(), **NOTHING, **values}


#: Part of a larger statement: stages messages together with their causes. Its parameter `messages` are rows, each with
#: what it is `about`; only those are staged that `happened` has the id of.
STAGED: Final = f"""
    staged AS (
        INSERT INTO messaging_outboxmessage (message_id, {", ".join(NOTHING)})
        SELECT message.message_id, message.{", message.".join(NOTHING)}
        FROM json_to_recordset(%(messages)s::json) AS message (
            about uuid, message_id uuid, exchange text, queue text, actor text, payload jsonb, body bytea,
            subscriber text, waits boolean, request_id text, options jsonb, returns int
        )
        JOIN happened ON happened.id = message.about
    )
"""  # noqa: S608  # our own columns  # nosec B608


def remove(ids: list[int]) -> None:
    """Rows are done with. One parameter for all: as many as there are rows would take longer than the deletion."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM messaging_outboxmessage WHERE id = ANY(%s)", [ids])


def may_wait(queue: str) -> bool:
    """Whether messages to a queue may wait, so that its trouble holds up nobody else."""
    return queue in settings.PATIENT_QUEUES


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of events that were staged before a time for a room which subscribes no more; returns how many.

    All other messages stay until they are delivered, however long that takes.
    """
    orphaned = OutboxMessage.objects.exclude(subscriber="").exclude(subscriber__in=list(settings.EVENT_SUBSCRIBERS))
    old = orphaned.filter(created_at__lt=before).order_by("id").values("pk")[:batch]
    return OutboxMessage.objects.filter(pk__in=old).delete()[0]
