"""The end of a message that will not be tried again by itself: a row that people can find, read and replay."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from messaging.models import DeadLetter

log = structlog.get_logger(__name__)


def record(
    *,
    queue: str,
    actor: str,
    payload: Mapping[str, Any],
    cause: str,
    detail: str,
    attempts: int,
    first_failed_at: datetime,
    message_id: str | uuid.UUID | None = None,
    traceback: str = "",
    subject: str = "",
    request_id: str = "",
    now: datetime | None = None,
) -> None:
    """Write a dead letter, in the caller's transaction if there is one.

    A message id is recorded only once, and one subject has only one open letter for the same message.
    """
    message_id = message_id or uuid.uuid4()
    now = now or timezone.now()
    what_failed = {"cause": cause, "detail": detail, "traceback": traceback, "last_failed_at": now}
    same = DeadLetter.objects.filter(state=DeadLetter.State.OPEN, actor=actor, subject=subject, payload=dict(payload))
    # The rescue brings a payment back under new message ids; while nobody has decided, it is one and the same death.
    if not subject or not same.exclude(message_id=message_id).update(attempts=F("attempts") + attempts, **what_failed):
        letter = DeadLetter(
            message_id=message_id,
            queue=queue,
            actor=actor,
            payload=dict(payload),
            attempts=attempts,
            subject=subject,
            request_id=request_id,
            first_failed_at=first_failed_at,
            **what_failed,
        )
        DeadLetter.objects.bulk_create([letter], ignore_conflicts=True)
    log.error("dead_letter", message_id=str(message_id), queue=queue, actor=actor, cause=cause, subject=subject)


def subject_of(actor: str, payload: Mapping[str, Any]) -> str:
    """What a message of one id concerns, by its topic in the settings: `payment:<id>` for `payment.due`."""
    ids = payload.get("ids")
    topics = [topic for topic, (_, receiver) in settings.MESSAGE_ROUTES.items() if receiver == actor]
    if not topics or not isinstance(ids, list) or len(ids) != 1:
        return ""
    return f"{topics[0].partition('.')[0]}:{ids[0]}"[:100]


def without_row(text: str) -> str:
    """An error of PostgreSQL without its DETAIL, which quotes the row and so what people have written into it."""
    return text.partition("\nDETAIL:")[0]
