"""Step 6: rooms of ours take the events they subscribe to straight from the outbox, in batches.

No broker lies between: what a room makes of the events, in PostgreSQL, and the end of their rows are one commit. So
an event is taken exactly once, whatever crashes and whatever a wiped broker forgets, and there is no receipt to keep.
It runs beside the relay, in a thread of its own: what is wrong with a room holds up no payment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from messaging import heartbeats, lanes, outbox
from messaging.database_errors import is_retryable
from messaging.failpoints import failpoint
from messaging.models import OutboxMessage
from messaging.periodic import PeriodicJobs, jobs_of

log = structlog.get_logger(__name__)

#: Events per transaction. What a room has to know for any number of them is read once for each.
BATCH: Final = 500
#: How long (s) an idle loop waits before it looks again. Nobody waits at a counter for these.
POLL_INTERVAL: Final = 0.1
#: The same while PostgreSQL is away.
TROUBLE_INTERVAL: Final = 1.0

#: What a room makes of events, in the caller's transaction. Telling it of an event twice changes nothing.
Take = Callable[[Sequence[UUID]], None]


@dataclass(slots=True)
class Subscribers:
    """Hands events to the rooms that subscribe until it is told to stop, and runs those rooms' periodic jobs."""

    jobs: PeriodicJobs = field(default_factory=lambda: PeriodicJobs(jobs_of(settings.SUBSCRIBERS_PERIODIC_JOBS)))

    def run(self, stopping: Event) -> None:
        """Work until `stopping` is set."""
        pulse = heartbeats.Pulse("subscribers")
        trouble = ""
        while not stopping.is_set():
            pulse.beat(note=trouble)
            self.jobs.run_due()
            try:
                taken = sum(run_once(subscriber) for subscriber in settings.EVENT_SUBSCRIBERS)
                trouble = ""
            except Error as error:
                taken, trouble = 0, f"PostgreSQL: {type(error).__name__}"
                log.warning("subscribers_troubled", exc_info=True)
                connection.close()
            if not taken:
                stopping.wait(TROUBLE_INTERVAL if trouble else POLL_INTERVAL)
        pulse.stop()


class Row(NamedTuple):
    """What is read of a row of the outbox; `event_id` as it stands there."""

    id: int
    message_id: UUID
    event_id: str


COLUMNS: Final = ("id", "message_id", "payload -> 'ids' ->> 0")


@transaction.atomic(durable=True)
def run_once(subscriber: str, *, batch: int = BATCH) -> int:
    """Hand one batch of events to a room; returns how many there were."""
    due = lanes.lock_due(lanes.IN_ROOM, subscriber, columns=COLUMNS, batch=batch)
    rows = [Row._make(values) for values in due]
    if not rows:
        return 0
    take: Take = import_string(settings.EVENT_SUBSCRIBERS[subscriber][1])
    taken = {row.id for row in hand_over(rows, take)}
    failpoint("subscribers.taken")
    outbox.remove(list(taken))
    pass_on([row for row in rows if row.id not in taken])
    return len(rows)


def hand_over(rows: list[Row], take: Take) -> list[Row]:
    """Those rows that the room took: all of them, or when the batch fails each that does not fail by itself.

    Raises:
        Error: a database error that is RETRY; the whole batch comes again.
    """
    try:
        with transaction.atomic():
            take([UUID(row.event_id) for row in rows])
    except Exception as error:
        if is_retryable(error):
            raise
        log.exception("event_not_taken", message_ids=[str(row.message_id) for row in rows][:10])
        return [row for one in rows for row in hand_over([one], take)] if len(rows) > 1 else []
    return rows


def pass_on(rows: list[Row]) -> None:
    """What a room fails at goes by the broker to its actor, whose escapes are counted and end as a dead letter."""
    OutboxMessage.objects.filter(id__in=[row.id for row in rows]).update(subscriber="", available_at=Now())
