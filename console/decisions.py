"""What staff decide about dead letters, on a page or by the API. The decision and its letters are one commit; then
the first chunk is resolved at once, so that a few letters need no worker, and the rest in the background.
"""

import json
from typing import Any

import structlog
from django.db import DatabaseError, OperationalError, transaction
from psycopg import errors as postgres

from console.reads import path_of, represent_resolution
from merchants.models import Merchant
from messaging import resolutions
from messaging.models import Resolution
from messaging.selections import Selection
from payments import idempotency
from payments.errors import IdempotencyKeyInUse, NothingToResolve
from payments.idempotency import Answer

log = structlog.get_logger(__name__)


def decide(
    selection: Selection, action: Resolution.Action, *, reason: str, by: str, rate: int | None, request_id: str
) -> Resolution:
    """Replay or discard the selected letters.

    Raises:
        NothingToResolve: none of them is open and free; nothing was done.
        IdempotencyKeyInUse: another decision is just being made; nothing was done.
    """
    try:
        with transaction.atomic(durable=True):
            resolution = take(selection, action, reason=reason, by=by, rate=rate, request_id=request_id)
    except OperationalError as error:
        raise translated(error) from error
    begin(resolution.pk)
    return resolution


def decide_once(
    selection: Selection,
    action: Resolution.Action,
    *,
    merchant: Merchant,
    idempotency_key: str,
    reason: str,
    by: str,
    rate: int | None,
    request_id: str,
) -> Answer:
    """As `decide`, once for each idempotency key; whoever repeats it gets the first answer.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.
        NothingToResolve, IdempotencyKeyInUse: as above.
    """
    values = {"selection": selection.document(), "reason": reason, "rate": rate}
    print_ = idempotency.fingerprint(f"dead_letters.{action.value}", values)
    resolution = None
    try:
        with transaction.atomic(durable=True):
            answer = idempotency.claim_or_replay(
                merchant=merchant, key=idempotency_key, print_=print_, answer=Answer(202, "", "")
            )
            if not answer.replayed:
                resolution = take(selection, action, reason=reason, by=by, rate=rate, request_id=request_id)
                answer = idempotency.complete(merchant=merchant, key=idempotency_key, answer=answer_of(resolution))
    except OperationalError as error:
        raise translated(error) from error
    if resolution is not None:
        begin(resolution.pk)
    return answer


def take(selection: Selection, action: Resolution.Action, **said: Any) -> Resolution:
    """Take the letters in hand, in the caller's transaction."""
    resolution = resolutions.decide(selection, action, in_background=False, **said)
    if not resolution.total:
        raise NothingToResolve
    resolution.refresh_from_db()  # its time is the database's
    return resolution


def answer_of(resolution: Resolution) -> Answer:
    """The resolution as it was decided, before its first letter."""
    body = json.dumps(represent_resolution(resolution), ensure_ascii=False, separators=(",", ":"))
    return Answer(202, body, path_of(resolution))


def translated(error: OperationalError) -> Exception:
    """A wait that took too long is no outage."""
    return IdempotencyKeyInUse() if isinstance(error.__cause__, postgres.LockNotAvailable) else error


def begin(resolution_id: int) -> None:
    """Resolve the first chunk, and see to it that the rest follows."""
    try:
        resolutions.work_off(resolution_id, in_background=True)
    except DatabaseError:  # it is decided: the rescue takes it up within a minute
        log.warning("resolution_begins_later", resolution=resolution_id, exc_info=True)
