"""The end of a message that will not be tried again by itself: a row that people can find, read and replay."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection
from django.utils import timezone

from messaging import records
from messaging.models import DeadLetter

log = structlog.get_logger(__name__)

#: Bytes of a foreign body that are kept: more than anything valid has (`MAX_BODY_BYTES`). A cut body is kept to be
#: looked at; only a whole one can be replayed.
MOST_KEPT: Final = 64 * 1024
#: The same for a message that workers refuse: four times what they accept, some 26,000 ids. It is never replayed.
MAX_REFUSED_BYTES: Final = 1024 * 1024

#: Columns that are logged: no text of a message's own but names.
LOGGED: Final = ("message_id", "queue", "actor", "subject", "cause")
COLUMNS: Final = {
    "message_id": "uuid",
    "queue": "text",
    "actor": "text",
    "payload": "jsonb",
    "body": "bytea",
    "body_size": "int",
    "cause": "text",
    "detail": "text",
    "traceback": "text",
    "attempts": "int",
    "subject": "text",
    "request_id": "text",
    "replay_of": "bigint",
    "first_failed_at": "timestamptz",
    "last_failed_at": "timestamptz",
}
NEW_DEATHS: Final = f"""
    new_deaths AS MATERIALIZED (
        SELECT * FROM {records.records(COLUMNS, name="input")}
        WHERE NOT EXISTS (SELECT FROM messaging_deadletter AS letter WHERE letter.message_id = input.message_id)
    )
"""  # noqa: S608  # put together of our own parts  # nosec B608
KNOWN_DEATHS: Final = """
    known_deaths AS (
        UPDATE messaging_deadletter AS letter
        SET attempts = least(letter.attempts::bigint + death.attempts, 2147483647),
            cause = death.cause, detail = death.detail, traceback = death.traceback,
            last_failed_at = death.last_failed_at
        FROM new_deaths AS death
        WHERE death.subject <> '' AND letter.subject = death.subject AND letter.actor = death.actor
            AND letter.payload = death.payload AND letter.state = 'open'
            AND NOT EXISTS (
                SELECT FROM messaging_resolution AS resolution
                WHERE resolution.id = letter.resolution_id AND resolution.state = 'running'
            )
        RETURNING death.message_id
    )
"""
NO_KNOWN_DEATHS: Final = "known_deaths AS (SELECT message_id FROM new_deaths WHERE false)"
#: One statement, whatever the number of dead letters.
#: `new_deaths`: message ids that have no row yet. A message id is recorded once, whatever became of its row since.
#: `known_deaths`: those of a subject that has an open row for the same message; the row is brought up to date. The
#: rescue brings a payment back under new message ids; until an operator has decided, that is the same death. A row
#: that a running resolution has selected is left alone. Messages from outside have no subject: `intake` records them,
#: whose role may not read resolutions.
#: `previous_id`: the dead letter whose replay failed now. The message names it; else it is the latest of its subject.
RECORD: Final = """
    WITH {new_deaths}, {known_deaths}, new_rows AS (
        INSERT INTO messaging_deadletter (
            message_id, state, queue, actor, payload, body, body_size, cause, detail, traceback, attempts, subject,
            request_id, first_failed_at, last_failed_at, previous_id
        )
        SELECT message_id, 'open', queue, actor, payload, body, body_size, cause, detail, traceback, attempts, subject,
            request_id, first_failed_at, last_failed_at,
            CASE WHEN replay_of IS NOT NULL THEN (SELECT id FROM messaging_deadletter WHERE id = replay_of)
                WHEN subject <> '' THEN (
                    SELECT max(replayed.id) FROM messaging_deadletter AS replayed
                    WHERE replayed.subject = death.subject AND replayed.actor = death.actor
                        AND replayed.state = 'replayed'
                ) END
        FROM new_deaths AS death
        WHERE message_id NOT IN (SELECT message_id FROM known_deaths)
        ON CONFLICT DO NOTHING
        RETURNING queue, actor, cause
    ), new_counts AS (
        INSERT INTO messaging_deathcount AS count (queue, actor, cause, total)
        SELECT queue, actor, cause, count(*) FROM new_rows GROUP BY queue, actor, cause ORDER BY queue, actor, cause
        ON CONFLICT (queue, actor, cause) DO UPDATE SET total = count.total + excluded.total
    )
    SELECT message_id FROM new_deaths
"""
RECORD_WITH_SUBJECTS: Final = RECORD.format(new_deaths=NEW_DEATHS, known_deaths=KNOWN_DEATHS)
RECORD_WITHOUT_SUBJECTS: Final = RECORD.format(new_deaths=NEW_DEATHS, known_deaths=NO_KNOWN_DEATHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A message that is given up, as it is recorded. `body`: what came, where it was no message to an actor."""

    queue: str
    cause: str
    detail: str
    attempts: int
    first_failed_at: datetime
    actor: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    most_kept: int = MOST_KEPT
    message_id: str | uuid.UUID = field(default_factory=uuid.uuid4)
    traceback: str = ""
    subject: str = ""
    request_id: str = ""
    replay_of: object = None

    def row(self, *, now: datetime) -> dict[str, Any]:
        """The row, with text that PostgreSQL can store."""
        return {
            "message_id": str(self.message_id),
            "queue": self.queue,
            "actor": self.actor,
            "payload": dict(self.payload),
            "body": None if self.body is None else bytes(self.body[: self.most_kept]),
            "body_size": len(self.body or b""),
            "cause": storable(self.cause)[:100],
            "detail": storable(self.detail)[:1000],
            "traceback": storable(self.traceback),
            "attempts": self.attempts,
            "subject": self.subject,
            "request_id": storable(self.request_id)[:128],
            "replay_of": row_id_of(self.replay_of),
            "first_failed_at": self.first_failed_at,
            "last_failed_at": now,
        }


def record(*, now: datetime | None = None, **said: Any) -> None:
    """Write a dead letter, in the caller's transaction if there is one; `said`: the fields of `Death`.

    A message id is recorded only once, however often it is delivered and whatever became of its letter since; and
    one subject has only one open letter for the same message.
    """
    record_many([Death(**said)], now=now)


def record_many(deaths: Sequence[Death], *, now: datetime | None = None) -> None:
    """Do what `record` does for many messages, in one statement."""
    rows = [death.row(now=now or timezone.now()) for death in deaths]
    if not rows:
        return
    statement = RECORD_WITH_SUBJECTS if any(death.subject for death in deaths) else RECORD_WITHOUT_SUBJECTS
    with connection.cursor() as cursor:
        cursor.execute(statement, records.parameters(rows))
        new = {str(message_id) for (message_id,) in cursor.fetchall()}
    for row in rows:
        if row["message_id"] in new:
            log.error(
                "dead_letter", **{name: row[name] for name in ("message_id", "queue", "actor", "subject", "cause")}
            )


def row_id_of(replay_of: object) -> int | None:
    """The id that a message calls that of its dead letter; 0, which no row has, for one that no row can have."""
    if not isinstance(replay_of, int):
        return None
    return int(replay_of) if 0 < replay_of < 2**63 else 0


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
