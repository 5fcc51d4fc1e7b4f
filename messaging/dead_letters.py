"""The end of a message that will not be tried again by itself: a row that people can find, read and replay."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
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
    """Write a dead letter, in the caller's transaction if there is one; a message id is recorded only once."""
    message_id = message_id or uuid.uuid4()
    DeadLetter.objects.bulk_create(
        [
            DeadLetter(
                message_id=message_id,
                queue=queue,
                actor=actor,
                payload=dict(payload),
                cause=cause,
                detail=detail,
                traceback=traceback,
                attempts=attempts,
                subject=subject,
                request_id=request_id,
                first_failed_at=first_failed_at,
                last_failed_at=now or timezone.now(),
            )
        ],
        ignore_conflicts=True,
    )
    log.error("dead_letter", message_id=str(message_id), queue=queue, actor=actor, cause=cause, subject=subject)
