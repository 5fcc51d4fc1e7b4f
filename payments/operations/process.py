"""Steps 3 to 5: claim, call, settle. Two short transactions, and the calls to the gateway between them.

A list of payments is claimed together and its calls are under way at the same time; each answer is settled when it
comes, together with those that came meanwhile. One payment is a list of one.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple
from uuid import UUID

import structlog
from django.db import transaction

from messaging import clock
from messaging.database_errors import is_contention, is_retryable, retry_while_unavailable
from messaging.escapes import Escaped
from messaging.failpoints import failpoint
from payments import breaker
from payments.gateways import loop
from payments.gateways.base import LookupAnswer, OutcomeUnknown, Unavailable
from payments.operations.claims import Claim, claim_payments
from payments.operations.settle import Answered, settle, settled_together
from payments.states import AttemptKind

log = structlog.get_logger(__name__)

#: How long (s) an answer is held on to at least, and how long between two tries to store it.
SETTLE_FOR: Final = 30.0
SETTLE_PAUSE: Final = 0.5


class Heard(NamedTuple):
    """What came of a call: an answer, or a defect of the adapter; neither where it was not made."""

    claim: Claim
    answer: LookupAnswer | None = None
    defect: BaseException | None = None


class Hearing:
    """From the gateways' loop to the thread that waits: all that one turn of the loop has heard comes at once.

    One by one, the first of a list would wake the thread, and be settled before the others.
    """

    def __init__(self) -> None:
        self.turn: list[Heard] = []
        self.turns: SimpleQueue[list[Heard]] = SimpleQueue()

    def put(self, one: Heard) -> None:
        """In the loop's thread."""
        if not self.turn:
            asyncio.get_running_loop().call_soon(self.end_turn)
        self.turn.append(one)

    def end_turn(self) -> None:
        """Hand over."""
        turn, self.turn = self.turn, []
        self.turns.put(turn)

    def take(self) -> list[Heard]:
        """Wait for something to be heard; all that was, by now."""
        came = self.turns.get()
        while True:
            try:
                came += self.turns.get_nowait()
            except Empty:
                return came


def process_payments(*, payment_ids: Sequence[UUID]) -> None:
    """Bring payments as far as they can go now. Harmless at any time and any number of times.

    Expected outcomes, good or bad, are recorded and return normally.

    Raises:
        Escaped: defects, or an unreachable database; with the payments that it concerns. All others had their turn.
    """
    failures: dict[UUID, BaseException] = {}
    heard = Hearing()
    awaited = call_all(claim_each(payment_ids, failures), heard)
    while awaited:
        came = heard.take()
        awaited -= len(came)
        failures |= {one.claim.request.payment_id: one.defect for one in came if one.defect is not None}
        answered = [Answered(one.claim, one.answer) for one in came if one.answer is not None]
        awaited += call_all(settle_each(answered, failures, ends=end_of(answered)), heard)
    if failures:
        told = {str(payment_id): failure for payment_id, failure in failures.items()}
        raise Escaped(told) from next(iter(failures.values()))


def claim_each(payment_ids: Sequence[UUID], failures: dict[UUID, BaseException]) -> list[Claim]:
    """`claim_payments`; where that fails, one by one, so that what fails for one fails for that one."""
    try:
        return claim_payments(payment_ids)
    except Exception as failure:  # noqa: BLE001  # told at the end, once the others had their turn
        if len(payment_ids) == 1 or is_away(failure):  # no better one by one
            failures |= dict.fromkeys(payment_ids, failure)
            return []
    return [claim for payment_id in payment_ids for claim in claim_each([payment_id], failures)]


def is_away(failure: Exception) -> bool:
    """Return whether the database is unavailable, and not only a row that another transaction has locked."""
    return is_retryable(failure) and not is_contention(failure)


def settle_each(answered: Sequence[Answered], failures: dict[UUID, BaseException], *, ends: float) -> list[Claim]:
    """Settle what can be settled together; where that fails, one by one. Returns what is to be called next.

    Answers that cannot be stored are held on to until `ends`, all of them: were each given a time of its own, a list
    would outlast what RabbitMQ waits for an acknowledgement.
    """
    following: list[Claim] = []
    for together in settled_together(answered):
        failpoint("charge.answered")
        try:
            following += settle_surely(together, ends=ends)
            failpoint("charge.settled")
            for claim, answer in together:
                teach_breaker(claim, answer)
        except Exception as failure:  # noqa: BLE001  # told at the end, once the others had their turn
            if len(together) == 1:
                failures[together[0].claim.request.payment_id] = failure
            else:
                following += [claim for one in together for claim in settle_each([one], failures, ends=ends)]
    return following


def end_of(answered: Sequence[Answered]) -> float:
    """How long answers are held on to: until the first lease ends, and for half a minute at least."""
    return max(min((claim.lease_ends for claim, _ in answered), default=0.0), clock.elapsed_seconds() + SETTLE_FOR)


def settle_surely(answered: Sequence[Answered], *, ends: float) -> list[Claim]:
    """Call `settle`, again and again while it fails with an error that is RETRY: a reply must not be lost.

    At least once; after `ends` the error is raised, and the look-up after the lease asks the gateway again.
    """
    return retry_while_unavailable(
        partial(settle, answered),
        pauses=pauses_until(ends),
        on_retry=partial(log.warning, "settle_waits_for_the_database", payments=len(answered)),
        sleep=time.sleep,
    )


def pauses_until(ends: float) -> Iterator[float]:
    """Yield the pause between two tries to store a reply, until `ends`."""
    while clock.elapsed_seconds() <= ends:
        yield SETTLE_PAUSE


def teach_breaker(claim: Claim, answer: LookupAnswer) -> None:
    """Let all workers know how the gateway does. A decline is an answer, and an answer is a success."""
    if isinstance(answer, Unavailable | OutcomeUnknown):
        breaker.note_failure(claim.gateway.name, claim.gateway.breaker, probe=claim.probe)
    elif claim.probe:
        breaker.note_success(claim.gateway.name)


def call_all(claims: Iterable[Claim], heard: Hearing) -> int:
    """Begin the calls of some claims, outside any transaction; returns of how many something will be heard."""
    assert not transaction.get_connection().in_atomic_block, "no network inside a transaction"
    begun = list(claims)
    if begun:
        failpoint("charge.claimed")
        loop.begin([call(claim, heard) for claim in begun])
    return len(begun)


async def call(claim: Claim, heard: Hearing) -> None:
    """Ask the gateway when there is room for one more, and tell what it said."""
    try:
        async with loop.room:
            answer = await ask(claim)
        heard.put(Heard(claim, answer=answer))
    except BaseException as defect:  # noqa: BLE001  # even a cancellation: a thread waits for this
        heard.put(Heard(claim, defect=defect))


async def ask(claim: Claim) -> LookupAnswer | None:
    """Ask the gateway; None when too little of the lease is left to ask safely."""
    deadline = claim.gateway.deadline
    began = clock.elapsed_seconds()
    said = {"payment_id": str(claim.request.payment_id), "request_id": claim.request.request_id}
    if claim.lease_ends - began < deadline:
        log.warning("lease_too_short_to_call", **said, seconds_left=claim.lease_ends - began)
        return None
    adapter = claim.gateway.adapter
    asking = adapter.charge if claim.kind == AttemptKind.CHARGE else adapter.look_up
    async with asyncio.timeout(claim.lease_ends - began):  # for an adapter that does not keep its promise
        answer = await asking(claim.request, deadline=deadline)
    log.info(
        "gateway_answered",
        **said,
        gateway=claim.gateway.name,
        call=claim.kind,
        answer=type(answer).__name__,
        milliseconds=round((clock.elapsed_seconds() - began) * 1000),
    )
    return answer
