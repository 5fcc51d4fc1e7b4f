"""Record the bytes of a dead message as dead letters: one for each id of a valid message, one for any other.

The check of the workers (`message_check`) is run again, so that the dead letter says which check failed. A message that
fails it is kept with its bytes: nothing in it is taken for a payment's id, and it is never replayed.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from dramatiq import Message

from messaging import dead_letters, message_check
from messaging.correlation import request_id_of
from messaging.database_errors import is_retryable
from messaging.dead_letters import MAX_REFUSED_BYTES, Death
from messaging.escapes import part_id
from messaging.message_check import InvalidMessage
from messaging.payloads import payload_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMessage:
    """What came, where, and why it was given up. `body_id` makes the id of a dead letter that keeps the bytes."""

    body: bytes
    queue: str
    cause: str
    detail: str
    attempts: int
    body_id: Callable[[], uuid.UUID]


def record(dead: DeadMessage, *, now: datetime) -> None:
    """Write the dead letters of a message to an actor, whatever it holds, in one statement.

    Raises:
        Error: a database error that is RETRY.
    """
    try:
        dead_letters.record_many(_deaths_of(dead, now=now), now=now)
    except Exception as error:
        if is_retryable(error):
            raise
        # A message that cannot be stored must not end the relay each time.
        log.warning("dead_message_cannot_be_stored", error=type(error).__name__)
        dead_letters.record_many([_whole(dead, dead.cause, dead.detail, now=now)], now=now)


def _deaths_of(dead: DeadMessage, *, now: datetime) -> list[Death]:
    """The dead letters; a valid message names at most `MAX_IDS_PER_MESSAGE` ids."""
    try:
        message = message_check.parse_message(dead.body, queue=dead.queue)
    except InvalidMessage as refusal:
        return [_whole(dead, refusal.code, refusal.detail, now=now)]
    cause, detail = dead.cause, dead.detail
    try:
        message_check.check_actor(message.actor_name, queue=dead.queue)
    except InvalidMessage as refusal:  # of another release perhaps: kept as a message, which that one can replay
        cause, detail = refusal.code, refusal.detail
    return [_part(message, id_, cause, detail, attempts=dead.attempts, now=now) for id_ in message.kwargs["ids"]]


def _part(message: Message[Any], id_: str | int, cause: str, detail: str, *, attempts: int, now: datetime) -> Death:
    """The dead letter of one id of a valid message."""
    payload = {**payload_of(message), "ids": [id_]}
    alone = len(message.kwargs["ids"]) == 1
    return Death(
        message_id=message.message_id if alone else part_id(message.message_id, id_),
        queue=message.queue_name,
        actor=message.actor_name,
        payload=payload,
        cause=cause,
        detail=detail,
        attempts=attempts,
        subject=dead_letters.subject_of(message.actor_name, payload),
        request_id=request_id_of(message.options, id_),
        replay_of=message.options.get("replay_of"),
        first_failed_at=now,
    )


def _whole(dead: DeadMessage, cause: str, detail: str, *, now: datetime) -> Death:
    """The dead letter of a message that no worker accepts: its bytes as they came."""
    return Death(
        message_id=dead.body_id(),
        queue=dead.queue,
        body=dead.body,
        most_kept=MAX_REFUSED_BYTES,
        cause=cause,
        detail=detail,
        attempts=dead.attempts,
        first_failed_at=now,
    )
