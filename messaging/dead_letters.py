"""The end of a message that will not be tried again by itself: a row that people can find, read and replay."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from messaging.models import DeadLetter
from messaging.selections import FREE

log = structlog.get_logger(__name__)

#: Bytes of a foreign body that are kept: more than anything valid has (`MAX_BODY_BYTES`). A cut body is kept to be
#: looked at; only a whole one can be replayed.
MOST_KEPT: Final = 64 * 1024

COUNT: Final = """
    INSERT INTO messaging_deathcount AS count (queue, actor, cause, total) VALUES (%s, %s, %s, 1)
    ON CONFLICT (queue, actor, cause) DO UPDATE SET total = count.total + 1
"""


@transaction.atomic
def record(
    *,
    queue: str,
    cause: str,
    detail: str,
    attempts: int,
    first_failed_at: datetime,
    actor: str = "",
    payload: Mapping[str, Any] | None = None,
    body: bytes | None = None,
    message_id: str | uuid.UUID | None = None,
    traceback: str = "",
    subject: str = "",
    request_id: str = "",
    replay_of: object = None,
    now: datetime | None = None,
) -> None:
    """Write a dead letter, in the caller's transaction if there is one.

    A message id is recorded only once, however often it is delivered and whatever became of its letter since; and
    one subject has only one open letter for the same message.
    """
    message_id, now = message_id or uuid.uuid4(), now or timezone.now()
    if DeadLetter.objects.filter(message_id=message_id).exists():
        return
    said = {"cause": storable(cause)[:100], "detail": storable(detail)[:1000], "traceback": storable(traceback)}
    log.error("dead_letter", message_id=str(message_id), queue=queue, actor=actor, subject=subject, cause=said["cause"])
    if is_told_again(subject, actor=actor, payload=payload or {}, attempts=attempts, last_failed_at=now, **said):
        return
    letter = DeadLetter(
        message_id=message_id,
        queue=queue,
        actor=actor,
        payload=dict(payload or {}),
        body=None if body is None else body[:MOST_KEPT],
        body_size=len(body or b""),
        attempts=attempts,
        subject=subject,
        request_id=storable(request_id)[:128],
        first_failed_at=first_failed_at,
        last_failed_at=now,
        previous=previous_of(subject, actor=actor, replay_of=replay_of),
        **said,
    )
    DeadLetter.objects.bulk_create([letter], ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute(COUNT, [queue, actor, said["cause"]])


def is_told_again(subject: str, *, actor: str, payload: Mapping[str, Any], attempts: int, **said: Any) -> bool:
    """Whether an open letter tells of this death already; it is then brought up to date.

    The rescue brings a payment back under new message ids; while nobody has decided, that is one and the same death.
    """
    undecided = DeadLetter.objects.filter(FREE, state=DeadLetter.State.OPEN)
    same = undecided.filter(actor=actor, subject=subject, payload=dict(payload))
    return bool(subject) and bool(same.update(attempts=F("attempts") + attempts, **said))


def previous_of(subject: str, *, actor: str, replay_of: object) -> DeadLetter | None:
    """The letter whose replay has died now, if this is one. The message says so itself, and may say anything."""
    if isinstance(replay_of, int):
        return DeadLetter.objects.filter(pk=replay_of).first()
    replayed = DeadLetter.objects.filter(subject=subject, actor=actor, state=DeadLetter.State.REPLAYED)
    return replayed.order_by("-id").first() if subject else None


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


def storable(text: str) -> str:
    """Text that PostgreSQL can store: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of letters that were resolved before a time; returns how many. Open ones are kept for ever."""
    old = DeadLetter.objects.filter(resolved_at__lt=before).order_by("resolved_at").values("pk")[:batch]
    deleted, _ = DeadLetter.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()
    return deleted
