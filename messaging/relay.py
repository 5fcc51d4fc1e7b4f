"""Step 2: from the outbox to the broker. At least once, in batches; several relays share the work.

Rows are locked with SKIP LOCKED, published with confirms, and deleted by id only when confirmed, all in
one transaction: the one place where network happens inside a transaction, bounded by the publisher's
deadline. A crash in between publishes again, which the actors bear.
"""

import time
import uuid
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
import structlog
from django.conf import settings
from django.db import Error, connection, transaction
from dramatiq import Message

from messaging import heartbeats, lanes, outbox
from messaging.doorbell import Listener
from messaging.envelope import Envelope
from messaging.failpoints import failpoint
from messaging.payloads import arguments_of
from messaging.periodic import PeriodicJobs
from messaging.publisher import BrokerUnavailable, Publisher

log = structlog.get_logger(__name__)

#: Where counting refusals ends; the column holds no more.
MOST_RETURNS: Final = 32_767
#: Rows per transaction. More gain nothing in throughput and hold the locks longer.
BATCH: Final = 500
#: How long (s) an idle relay waits before it looks again; an accepted payment wakes it (`doorbell`).
POLL_INTERVAL: Final = 0.01
#: The same for what nobody waits for.
ANNOUNCE_INTERVAL: Final = 0.05
#: Waits (s) while RabbitMQ or PostgreSQL is away.
TROUBLE_INTERVAL: Final = 0.5
#: How long (s) events rest after trouble of theirs: each try may hold up the work for the announcer's deadline.
ANNOUNCE_PAUSE: Final = 5.0
#: A refused message waits this long, twice as long after each refusal: a queue may be missing for a moment or
#: for ever, and what waits for it must not hold up the rest.
REFUSED_DELAY: Final = timedelta(seconds=2)
LONGEST_REFUSED_DELAY: Final = timedelta(minutes=10)


@dataclass(slots=True)
class Relay:
    """Moves messages from the outbox to the publisher until it is told to stop.

    With an `announcer`, events and what else may wait go through that one, over a connection of its own: a queue that
    takes nothing has RabbitMQ stop reading from whoever publishes to it.
    """

    publisher: Publisher
    jobs: PeriodicJobs = field(default_factory=PeriodicJobs)
    announcer: Publisher | None = None
    trouble: str = ""
    unannounced: str = ""
    announce_at: float = 0.0
    listener: Listener = field(default_factory=Listener)

    def run(self, stopping: Event) -> None:
        """Relay, run the periodic jobs and show signs of life until `stopping` is set."""
        pulse = heartbeats.Pulse("relay")
        while not stopping.is_set():
            pulse.beat(note=self.trouble or self.unannounced)
            if not self.trouble:  # a rescue into an outbox that nobody empties would only fill it
                self.jobs.run_due()
            self.listener.forget()
            if not self.try_once() + self.announce():
                self.rest()
        for publisher in filter(None, (self.publisher, self.announcer)):
            publisher.close()
        pulse.stop()

    def rest(self) -> None:
        """Wait, but no longer than until the doorbell rings; not at all if it has, since we last began to look."""
        if self.trouble:
            self.publisher.pump(TROUBLE_INTERVAL)
            return
        socket = self.listener.socket()
        if not self.listener.has_heard:
            self.publisher.pump(POLL_INTERVAL, or_read=socket)

    def try_once(self) -> int:
        """`run_once`, with trouble at either end told once, when it begins, and again when it is over."""
        moved, trouble = move(self.publisher, lanes.EVERYTHING if self.announcer is None else lanes.WORK)
        if trouble != self.trouble:
            log.warning("relay_troubled", trouble=trouble) if trouble else log.info("relay_recovered")
            self.trouble = trouble
        return moved

    def announce(self) -> int:
        """The same for what may wait: its trouble is not the payments', and nothing waits for it."""
        if self.announcer is None or self.trouble or time.monotonic() < self.announce_at:
            return 0
        # Neither waits for the other's trouble.
        outcomes = [move(self.announcer, lane) for lane in (lanes.EVENTS, lanes.PATIENT)]
        moved = sum(count for count, _ in outcomes)
        trouble = next((trouble for _, trouble in outcomes if trouble), "")
        self.announcer.pump(0)
        if trouble or not moved:
            self.announce_at = time.monotonic() + (ANNOUNCE_PAUSE if trouble else ANNOUNCE_INTERVAL)
        if bool(trouble) != bool(self.unannounced):
            log.warning("events_troubled", trouble=trouble) if trouble else log.info("events_recovered")
        self.unannounced = f"events and notifications wait: {trouble}" if trouble else ""
        return moved


def move(publisher: Publisher, lane: str) -> tuple[int, str]:
    """`run_once`; how many rows were taken, and what is the trouble, if there is any."""
    moved, trouble = 0, ""
    try:
        publisher.ensure_connected()
        moved = run_once(publisher, lane=lane) if lanes.is_due(lane) else 0
        publisher.ensure_connected()  # tells what the batch itself could not: confirms that did not come
    except BrokerUnavailable as error:
        trouble = f"RabbitMQ: {error}"
    except Error as error:
        trouble = f"PostgreSQL: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        connection.close()
    return moved, trouble


@transaction.atomic(durable=True)
def run_once(publisher: Publisher, *, batch: int = BATCH, lane: str = lanes.EVERYTHING) -> int:
    """Publish one batch of due messages and delete what was confirmed; returns how many rows were taken."""
    rows = [row_of(values) for values in lanes.lock_due(lane, columns=Row._fields, batch=batch)]
    if not rows:
        return 0
    parcels = [Parcel(to_envelope(alike), alike) for alike in joined(rows)]
    published = publisher.publish([parcel.envelope for parcel in parcels])
    failpoint("relay.announced" if rows[0].exchange else "relay.published")
    confirmed = [row.id for row in contents(parcels, published.confirmed)]
    outbox.remove(confirmed)
    put_back([row.id for row in contents(parcels, published.refused)])
    return len(rows)


class Row(NamedTuple):
    """What is published of a row of the outbox."""

    id: int
    message_id: UUID
    exchange: str
    queue: str
    actor: str
    body: bytes | None
    waits: bool
    request_id: str
    payload: dict[str, Any]
    options: dict[str, Any]


def row_of(values: Sequence[Any]) -> Row:
    """As it was read."""
    *others, payload, options = values
    return Row._make([*others, orjson.loads(payload), orjson.loads(options)])


class Parcel(NamedTuple):
    """A message as it travels, and the rows it is made of."""

    envelope: Envelope
    rows: list[Row]


def contents(parcels: Iterable[Parcel], message_ids: Container[str]) -> list[Row]:
    """The rows of those messages."""
    return [row for parcel in parcels if parcel.envelope.message_id in message_ids for row in parcel.rows]


def joined(rows: Iterable[Row]) -> list[list[Row]]:
    """Which rows travel together. What has a story of its own, such as an escape, travels alone."""
    lists: list[list[Row]] = []
    open_lists: dict[tuple[str, str], tuple[list[Row], int]] = {}
    for row in rows:
        if row.actor not in settings.LIST_ACTORS or row.options or list(row.payload) != ["ids"]:
            lists.append([row])
            continue
        ids = len(row.payload["ids"])
        known, number = open_lists.get((row.queue, row.actor), ([], 0))
        if not known or number + ids > settings.LIST_ACTORS[row.actor]:
            known, number = [], 0
            lists.append(known)
        known.append(row)
        open_lists[row.queue, row.actor] = known, number + ids
    return lists


def ids_of(rows: Iterable[Row]) -> list[Any]:
    """What the rows are about."""
    return [id_ for row in rows for id_ in row.payload["ids"]]


#: Each longer than the last time.
PUT_BACK: Final = """
    UPDATE messaging_outboxmessage SET
        returns = least(returns + 1, %s),
        available_at = statement_timestamp() + least(%s * 2 ^ least(returns, 20), %s::interval)
    WHERE id = ANY(%s)
"""


def put_back(ids: list[int]) -> None:
    """Let refused messages wait."""
    if ids:
        values: list[Any] = [MOST_RETURNS, REFUSED_DELAY, LONGEST_REFUSED_DELAY, ids]
        with connection.cursor() as cursor:
            cursor.execute(PUT_BACK, values)


def to_envelope(rows: Sequence[Row]) -> Envelope:
    """Outbox rows as they travel: one, or several for one actor."""
    row = rows[0]
    if not row.actor:
        headers = {name: value for name, value in row.options.items() if name != "content_type"}
        return Envelope(
            message_id=str(row.message_id),
            exchange=row.exchange,
            routing_key=row.queue,
            body=bytes(row.body or b""),
            content_type=row.options.get("content_type", "application/json"),
            headers={"request_id": row.request_id, **headers},
        )
    message = to_message(rows)
    return Envelope(
        message_id=message.message_id,
        routing_key=row.queue,
        body=message.encode(),
        waits=all(row.waits for row in rows),
    )


def to_message(rows: Sequence[Row]) -> Message[Any]:
    """The Dramatiq message of outbox rows."""
    row = rows[0]
    payload, message_id = row.payload, row.message_id
    options = {**row.options, "request_id": row.request_id}
    if len(rows) > 1:
        # Another id each time: the next time it goes out, it may have others in it.
        payload, message_id = {"ids": ids_of(rows)}, uuid.uuid4()
    if any(other.request_id != row.request_id for other in rows):
        # None is the whole message's; each goes on with what fails (`correlation.request_id_of`).
        each = {str(id_): other.request_id for other in rows for id_ in other.payload["ids"]}
        options |= {"request_id": "", "request_ids": each}
    args, kwargs = arguments_of(payload)
    return Message(
        queue_name=row.queue,
        actor_name=row.actor,
        args=args,
        kwargs=kwargs,
        options=options,
        message_id=str(message_id),
        message_timestamp=int(time.time() * 1000),
    )
