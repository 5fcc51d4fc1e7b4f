"""Step 1 by another door: payments that other services ask for by message, on the queue `settings.INTAKE_QUEUE`.

The same rules and the same operation as the API. Acknowledged after the commit; what is definitely wrong goes
straight to the dead letters with the reason, and is never tried again by itself.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import structlog
from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import ParseError, ValidationError

from merchants.refusals import Refused
from messaging import collector, dead_letters
from messaging.consumer import Consumer, Delivery, TryAgain
from messaging.correlation import first_acceptable
from messaging.database_errors import is_retryable
from payments import messages
from payments.errors import (
    IdempotencyKeyInUse,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    NoGateway,
    OrderConflict,
    TooManyDeclines,
)
from payments.idempotency import Answer
from payments.messages import FindMerchant
from payments.operations import Wish, accept_at_once, accept_payments
from payments.parsers import BodyTooLarge, read_document

log = structlog.get_logger(__name__)

#: Refusals whose own words speak to a caller of the API -> words for who finds the dead letter.
RETOLD: Final[dict[type[Refused], str]] = {
    IdempotencyKeyMissing: "The field `idempotency_key` is missing; a message without one could be charged twice.",
    IdempotencyKeyReused: "This `idempotency_key` belongs to another request, whose values differ. Nothing was "
    "charged for this one; it needs a key of its own.",
    TooManyDeclines: "So many payments of this payer, or of the merchant, were declined within an hour that somebody "
    "may be testing stolen cards. Nothing was charged. Once the block has ended or is lifted, replay this message.",
    NoGateway: "No gateway is configured for the `mode` live. Configure one and replay this message, or discard it.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a message is dead: a code, and words for people; neither quotes a value out of the message."""

    cause: str
    detail: str
    traceback: str = ""


def make(url: str) -> Consumer:
    """The consumer of the queue."""
    queue = settings.INTAKE_QUEUE
    return Consumer(
        url=url,
        name="intake",
        declare=[queue],
        read=[queue],
        handle=receive,
        together=receive_together,
        entrance=queue,
    )


def receive_together(deliveries: Sequence[Delivery]) -> set[int]:
    """Accept by one statement what is in order; returns the tags of those messages. All others are left to `receive`.

    Raises:
        Error: a database error that is RETRY.
    """
    find = cache(messages.find_merchant)
    wishes = {each.tag: wish for each in deliveries if (wish := wish_or_none(each, find)) is not None}
    outcomes = zip(wishes.items(), accept_at_once(list(wishes.values())), strict=True)
    settled = {tag: (wish, outcome) for (tag, wish), outcome in outcomes if isinstance(outcome, Answer)}
    for wish, answer in settled.values():
        with structlog.contextvars.bound_contextvars(request_id=wish.request_id):
            tell(answer)
    return set(settled)


def wish_or_none(delivery: Delivery, find: FindMerchant) -> Wish | None:
    """What a message asks for; None if there is anything the matter with it."""
    try:
        return wish_of(delivery.body, request_id=request_id_of(delivery), find=find)
    except Exception as error:
        if is_retryable(error):
            raise
        return None  # it comes again, alone


def request_id_of(delivery: Delivery) -> str:
    """As its sender names it, or a new one."""
    headers = delivery.headers
    return first_acceptable(headers.get("request_id"), delivery.correlation_id, traceparent=headers.get("traceparent"))


def receive(delivery: Delivery) -> None:
    """Accept the payment that one message asks for, or bury the message.

    Raises:
        TryAgain, Error: nothing was done, through no fault of the message; the error is RETRY.
    """
    request_id = request_id_of(delivery)
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            accept(delivery.body, request_id=request_id)
        except IdempotencyKeyInUse as refusal:
            raise TryAgain(refusal.detail) from None
        except Exception as error:
            if is_retryable(error):
                raise
            # A defect must not hold up the messages behind this one.
            bury(delivery, explain(error), request_id=request_id)


def accept(body: bytes, *, request_id: str) -> None:
    """Accept the payment that a body asks for; one that was accepted before changes nothing."""
    (outcome,) = accept_payments([wish_of(body, request_id=request_id, find=messages.find_merchant)])
    if isinstance(outcome, Exception):
        raise outcome
    tell(outcome)


def wish_of(body: bytes, *, request_id: str, find: FindMerchant) -> Wish:
    """What a body asks for. Raises what `explain` explains."""
    document = read_document(body)
    if not isinstance(document, dict):
        raise ParseError("It is JSON, but no object: a message is { … }.")
    message = messages.read(document, find=find)
    return Wish(
        merchant=message.merchant,
        mode=message.mode,
        idempotency_key=message.idempotency_key,
        request=message.request,
        request_id=request_id,
        now=timezone.now(),
    )


def tell(answer: Answer) -> None:
    """That a message was carried out."""
    said = "message_duplicate" if answer.replayed else "message_accepted"
    log.info(said, payment_id=answer.location.rpartition("/")[2])


def explain(error: Exception) -> Reason:
    """Why a message is dead, by what was raised for it."""
    match error:
        case BodyTooLarge():
            return Reason("too_large", f"It has more than {settings.MAX_BODY_BYTES} bytes; only its beginning is kept.")
        case ParseError():
            return Reason("not_json", str(error.detail))
        case ValidationError():
            return Reason("invalid", messages.tell(error.detail))
        case OrderConflict():
            return Reason(error.code, f"{error.detail} It is payment {error.payment_id}.")
        case Refused():
            return Reason(error.code, RETOLD.get(type(error), error.detail))
    # Its own words may quote the message, and so they are left out; the frames do not.
    frames = "".join(traceback.format_tb(error.__traceback__))[-10_000:]
    return Reason(type(error).__name__, "A defect of ours, not of the message; the traceback says where.", frames)


def bury(delivery: Delivery, reason: Reason, *, request_id: str) -> None:
    """Write the dead letter; a message that is delivered again has one already."""
    replay_of, now = delivery.headers.get("replay_of"), timezone.now()
    dead_letters.record(
        message_id=collector.next_id(delivery, settings.INTAKE_QUEUE),
        queue=settings.INTAKE_QUEUE,
        body=kept(delivery.body),
        cause=reason.cause,
        detail=reason.detail,
        traceback=reason.traceback,
        attempts=1,
        request_id=request_id,
        replay_of=replay_of if type(replay_of) is int else None,
        first_failed_at=now,
        now=now,
    )


def kept(body: bytes) -> bytes:
    """The body as it may be stored."""
    document: Any = None
    try:
        document = read_document(body)
    except (BodyTooLarge, ParseError):
        return body
    return messages.without_cards(document, body)
