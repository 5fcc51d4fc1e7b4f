"""What escapes an actor: a bug, or the database being away. Expected outcomes never come here.

The message goes back into the outbox with a growing delay, and after `LIMIT` escapes becomes a dead letter.
Dramatiq swallows exceptions of its middleware and would then acknowledge the message; so when even the
outbox cannot be written, the message is failed first, which sends it to its dead-letter queue.
"""

import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import dramatiq
import structlog
from django.db import close_old_connections, transaction
from django.utils import timezone
from dramatiq import ActorNotFound, Broker, MessageProxy, Middleware

from messaging import dead_letters, outbox
from messaging.correlation import request_id_of
from messaging.database_errors import close_unfit_session, is_retryable, retry_while_unavailable
from messaging.dead_letters import Death
from messaging.models import OutboxMessage
from messaging.payloads import payload_of

log = structlog.get_logger(__name__)

#: Escapes before a message is given up: with the delays below, after about a quarter of an hour.
LIMIT: Final = 8
LONGEST_DELAY: Final = timedelta(minutes=5)
#: Waits (s) for a database that is away, ten minutes in all: far below the 30 minutes after which RabbitMQ closes
#: the channel of a consumer that does not acknowledge.
OUTAGE_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, *[10.0] * 60)


Id = TypeVar("Id", str, int)


class Escaped(Exception):
    """Some ids of a message failed unexpectedly; all others of it are done with.

    `failures`: the id, as text -> what was raised for it.
    """

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        super().__init__(", ".join(failures))
        self.failures = failures


def each(ids: Iterable[Id], operation: Callable[[Id], None]) -> None:
    """Do it for all. One that fails unexpectedly does not hold up the others.

    Raises:
        Escaped: once all had their turn.
    """
    failures: dict[str, BaseException] = {}
    for id_ in ids:
        try:
            operation(id_)
        except Exception as failure:  # noqa: BLE001  # raised below
            failures[str(id_)] = failure
    if failures:
        raise Escaped(failures) from next(iter(failures.values()))


class Part(NamedTuple):
    """What failed of a message, why, and the message id of its dead letter, should it become one."""

    payload: dict[str, Any]
    failure: BaseException
    message_id: str
    request_id: str


class Escapes(Middleware):
    """Takes the place of Dramatiq's `Retries`, whose retries can be lost while the message is acknowledged.

    Heeds an actor's option `throws`: exceptions that no repetition mends.
    """

    @property
    def actor_options(self) -> set[str]:
        """What actors may say."""
        return {"throws"}

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Put a message whose actor raised where it will be seen again."""
        if exception is None:
            return
        try:
            store_escape(message, exception)
        except Exception:
            message.fail()
            raise


def store_escape(message: MessageProxy, exception: BaseException) -> None:
    """`handle_escape`, waiting for a database that is away; the message stays unacknowledged meanwhile.

    Rejecting it instead would move the whole queue into its dead-letter queue within seconds of an outage.
    """
    close_old_connections()
    for failure in exception.failures.values() if isinstance(exception, Escaped) else [exception]:
        close_unfit_session(failure)
    retry_while_unavailable(
        lambda: handle_escape(message, exception, now=timezone.now()),
        pauses=OUTAGE_PAUSES,
        on_retry=partial(log.warning, "escape_waits_for_the_database", message_id=message.message_id),
        sleep=time.sleep,
    )


@transaction.atomic(durable=True)
def handle_escape(message: MessageProxy, exception: BaseException, *, now: datetime) -> None:
    """Stage what failed again, or bury it when it has escaped too often."""
    escapes = int(message.options.get("escapes", 0)) + 1
    again, dead = [], []
    for part in parts_of(message, exception):
        if not is_given_up(message, part, escapes=escapes):
            again.append(staged(message, part, escapes=escapes, now=now))
            log.warning("message_escaped", escapes=escapes, error=type(part.failure).__name__)
        else:
            dead.append(death_of(message, part, escapes=escapes, now=now))
    OutboxMessage.objects.bulk_create(again)
    dead_letters.record_many(dead, now=now)


def parts_of(message: MessageProxy, exception: BaseException) -> list[Part]:
    """What failed of a message, id by id: what fails for one must not come again, or die, with others."""
    payload = payload_of(message)
    ids, of_all = payload.get("ids"), message.options.get("request_id", "")
    if not isinstance(ids, list) or len(ids) < 2:
        failure = next(iter(exception.failures.values())) if isinstance(exception, Escaped) else exception
        return [Part(payload, failure, message.message_id, of_all)]
    failures = exception.failures if isinstance(exception, Escaped) else {str(id_): exception for id_ in ids}
    failed = [
        Part(
            {**payload, "ids": [id_]},
            failures[str(id_)],
            part_id(message.message_id, id_),
            request_id_of(message.options, id_),
        )
        for id_ in ids
        if str(id_) in failures
    ]
    return failed or [
        Part(payload, exception, message.message_id, of_all)
    ]  # it calls them otherwise: nothing may get lost


def part_id(message_id: str, id_: object) -> str:
    """The message id of a part that has died: the same each time, so that it is told once."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{message_id} {id_}"))


def staged(message: MessageProxy, part: Part, *, escapes: int, now: datetime) -> OutboxMessage:
    """What goes back into the outbox, to come again later; not saved."""
    handed_on = {name: message.options[name] for name in ("replay_of",) if name in message.options}
    first_failed_at = message.options.get("first_failed_at", now.isoformat())
    return OutboxMessage(
        queue=message.queue_name,
        actor=message.actor_name,
        payload=part.payload,
        waits=outbox.may_wait(message.queue_name),
        request_id=part.request_id,
        options={**handed_on, "escapes": escapes, "first_failed_at": first_failed_at},
        available_at=now + delay_after(escapes),
    )


def death_of(message: MessageProxy, part: Part, *, escapes: int, now: datetime) -> Death:
    """The dead letter of what failed too often; not saved."""
    return Death(
        message_id=part.message_id,
        queue=message.queue_name,
        actor=message.actor_name,
        payload=part.payload,
        cause=type(part.failure).__name__,
        detail=dead_letters.without_row(str(part.failure)),
        traceback="".join(traceback.format_tb(part.failure.__traceback__))[-10_000:],
        attempts=escapes,
        subject=dead_letters.subject_of(message.actor_name, part.payload),
        first_failed_at=datetime.fromisoformat(message.options.get("first_failed_at", now.isoformat())),
        request_id=part.request_id,
        replay_of=message.options.get("replay_of"),
    )


def is_given_up(message: MessageProxy, part: Part, *, escapes: int) -> bool:
    """Return whether what failed becomes a dead letter now.

    An error of the database that is RETRY never does, however often it comes: the message is not at fault.
    """
    return is_thrown(message.actor_name, part.failure) or (escapes >= LIMIT and not is_retryable(part.failure))


def is_thrown(actor_name: str, exception: BaseException) -> bool:
    """Whether the actor has said that no repetition mends this."""
    try:
        throws = dramatiq.get_broker().get_actor(actor_name).options.get("throws", ())
    except ActorNotFound:  # perhaps of a newer release, which other workers run already
        return False
    return bool(throws) and isinstance(exception, throws)


def delay_after(escapes: int) -> timedelta:
    """1, 4, 16 s … up to five minutes: quick for a blip, patient for an outage."""
    return min(timedelta(seconds=4 ** min(escapes - 1, LIMIT)), LONGEST_DELAY)  # more would overflow it
