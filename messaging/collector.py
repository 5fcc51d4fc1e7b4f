"""What RabbitMQ itself gave up becomes rows: undecodable bodies, and whatever a worker rejected or died of.

Every work queue has a dead-letter queue. Nobody looks into those, and a wiped broker forgets them: so they are
emptied into the table all the time, in the relay process.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

import structlog
from django.conf import settings
from django.utils import timezone
from dramatiq import DecodeError, Message

from messaging import dead_letters, topology
from messaging.consumer import Consumer, Delivery
from messaging.correlation import request_id_of
from messaging.database_errors import is_retryable
from messaging.escapes import part_id
from messaging.models import DeadLetter
from messaging.payloads import payload_of

log = structlog.get_logger(__name__)

#: Why RabbitMQ gave a message up -> our cause, and plain words.
REASONS: Final = {
    "delivery_limit": (
        "delivery_limit",
        "It was handed out again and again and never acknowledged: it may kill its process each time.",
    ),
    "rejected": ("rejected", "A worker rejected it and could not store why; its log says more."),
}
UNDECODABLE: Final = ("undecodable", "It is no message of ours: its body cannot be read.")
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
    elif not was_ours(delivery, queue, cause=cause, detail=detail, attempts=times):
        keep(delivery, queue, cause=UNDECODABLE[0], detail=UNDECODABLE[1], attempts=times)


def was_ours(delivery: Delivery, queue: str, *, cause: str, detail: str, attempts: int) -> bool:
    """Write the letter of a message to an actor; False when it is none, or holds what cannot be stored."""
    message = decode(delivery.body)
    if message is None:
        return False
    try:
        for letter in letters_of(message):
            keep_message(message, *letter, queue=queue, cause=cause, detail=detail, attempts=attempts)
    except Exception as error:
        if is_retryable(error):
            raise
        # Too long, too deep, half a character: the relay would end with it.
        log.warning("dead_message_cannot_be_stored", error=type(error).__name__)
        return False
    return True


def letters_of(message: Message[Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Message id, payload and request of each letter that a dead message becomes: one for each of its ids."""
    payload = payload_of(message)
    ids = payload.get("ids")
    if not isinstance(ids, list) or len(ids) < 2:
        yield message.message_id, payload, str(message.options.get("request_id", ""))
        return
    for id_ in ids:
        yield part_id(message.message_id, id_), {**payload, "ids": [id_]}, request_id_of(message.options, id_)


def keep_message(
    message: Message[Any],
    message_id: str,
    payload: dict[str, Any],
    request_id: str,
    *,
    queue: str,
    cause: str,
    detail: str,
    attempts: int,
) -> None:
    """Write a letter of a message to an actor."""
    now = timezone.now()
    dead_letters.record(
        message_id=message_id,
        queue=queue,
        actor=message.actor_name,
        payload=payload,
        cause=cause,
        detail=detail,
        attempts=attempts,
        subject=dead_letters.subject_of(message.actor_name, payload),
        request_id=request_id,
        replay_of=message.options.get("replay_of"),
        first_failed_at=now,
        now=now,
    )


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


def decode(body: bytes) -> Message[Any] | None:
    """The Dramatiq message in a body, if there is one whose fields are of the right types."""
    try:
        message: Message[Any] = Message.decode(body)
        uuid.UUID(message.message_id)
    except (DecodeError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    kinds: dict[str, Any] = {"actor_name": str, "args": list | tuple, "kwargs": dict, "options": dict}
    sound = bool(message.actor_name) and all(isinstance(getattr(message, name), kinds[name]) for name in kinds)
    return message if sound and b"\\u0000" not in body else None


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
    count = deaths[0].get("count")
    return str(deaths[0].get("reason", "")), count if type(count) is int and 0 < count < MOST_DEATHS else 1
