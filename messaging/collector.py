"""What RabbitMQ itself gave up becomes rows: undecodable bodies, and whatever a worker rejected or died of.

Every work queue has a dead-letter queue. Nobody looks into those, and a wiped broker forgets them: so they are
emptied into the table all the time, in the relay process.
"""

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import structlog
from django.conf import settings
from django.utils import timezone

from messaging import dead_letters, dead_messages, topology
from messaging.consumer import Consumer, Delivery
from messaging.dead_messages import DeadMessage
from messaging.models import DeadLetter

log = structlog.get_logger(__name__)

#: Why RabbitMQ gave a message up -> our cause, and plain words.
REASONS: Final = {
    "delivery_limit": (
        "delivery_limit",
        "It was handed out again and again and never acknowledged: it may kill its process each time.",
    ),
    "rejected": ("rejected", "A worker rejected it and could not store why; its log says more."),
}
OTHER: Final = ("given_up", "RabbitMQ gave it up")
#: More deaths than this are nobody's; the column holds no more.
MOST_DEATHS: Final = 2**31
#: Makes ids of what has none that could be trusted: the same bytes in the same queue are the same letter.
NAMESPACE: Final = uuid.UUID("5d0a7a35-6f4c-4b7c-9f43-0f6d4a3d9b11")


def make(url: str) -> Consumer:
    """The consumer of all dead-letter queues."""
    queues = topology.work_queues()
    read = [topology.dead_letter_queue(queue) for queue in queues]
    return Consumer(url=url, name="collector", declare=queues, read=read, handle=collect)


def collect(delivery: Delivery) -> None:
    """Make one dead message a row, whatever it holds; one that has its row already changes nothing."""
    queues = {topology.dead_letter_queue(queue): queue for queue in topology.work_queues()}
    queue = queues[delivery.queue]
    reason, times = death_of(delivery.headers)
    cause, detail = REASONS.get(reason, (OTHER[0], f"{OTHER[1]}: {reason or 'it does not say why'}."))
    if queue == settings.INTAKE_QUEUE:
        keep(delivery, queue, cause=cause, detail=detail, attempts=times)
        return
    dead = DeadMessage(
        body=delivery.body,
        queue=queue,
        cause=cause,
        detail=detail,
        attempts=times,
        body_id=partial(next_id, delivery, queue),
    )
    dead_messages.record(dead, now=timezone.now())


def keep(delivery: Delivery, queue: str, *, cause: str, detail: str, attempts: int) -> None:
    """Write the letter of what is no message to an actor: the bytes as they came."""
    now = timezone.now()
    dead_letters.record(
        message_id=next_id(delivery, queue),
        queue=queue,
        body=delivery.body,
        cause=cause,
        detail=detail,
        attempts=attempts,
        first_failed_at=now,
        now=now,
    )


def derived_id(delivery: Delivery, queue: str) -> uuid.UUID:
    """An id for a message from a stranger: what it says of itself may be missing, or the same for all."""
    return uuid.uuid5(NAMESPACE, f"{queue} {delivery.message_id} {delivery.body.hex()}")


def next_id(delivery: Delivery, queue: str) -> uuid.UUID:
    """The derived id, or the one that follows where its letter is closed.

    Of equal messages one open letter tells. Once it is closed the next one is news again: it must not vanish.
    """
    id_ = derived_id(delivery, queue)
    while DeadLetter.objects.filter(message_id=id_).exclude(state=DeadLetter.State.OPEN).exists():
        id_ = uuid.uuid5(NAMESPACE, f"{queue} after {id_}")
    return id_


def death_of(headers: Mapping[str, Any]) -> tuple[str, int]:
    """Why RabbitMQ gave the message up, and how often that has happened; a sender may have written the header."""
    deaths = headers.get("x-death")
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return "", 1
    count, reason = deaths[0].get("count"), deaths[0].get("reason")
    return (
        reason if isinstance(reason, str) else "",
        count if type(count) is int and 0 < count < MOST_DEATHS else 1,
    )
