"""Steps 3 to 5: claim, call, settle. Two short transactions, and the call to the gateway between them."""

import time
from typing import Final
from uuid import UUID

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from messaging.failpoints import failpoint
from payments import breaker
from payments.gateways.base import LookupAnswer, OutcomeUnknown, Unavailable
from payments.operations.claims import Claim, claim_payment
from payments.operations.settle import settle
from payments.states import AttemptKind

log = structlog.get_logger(__name__)

#: How long (s) an answer is held on to at least, and how long between two tries to store it.
SETTLE_FOR: Final = 30.0
SETTLE_PAUSE: Final = 0.5


def process_payment(*, payment_id: UUID) -> None:
    """Bring one payment as far as it can go now. Harmless at any time and any number of times.

    Expected outcomes, good or bad, are recorded and return normally; only defects and an unreachable
    database raise.
    """
    claim = claim_payment(payment_id)
    while claim is not None:
        failpoint("charge.claimed")
        answer = call_gateway(claim)
        if answer is None:
            return
        failpoint("charge.answered")
        following = settle_surely(claim, answer)
        failpoint("charge.settled")
        teach_breaker(claim, answer)
        claim = following


def settle_surely(claim: Claim, answer: LookupAnswer) -> Claim | None:
    """`settle`, again and again while the database is away or the row is locked: an answer must not be lost.

    Until the lease ends, and for half a minute at least; then the look-up after the lease has to find out again.
    """
    ends = max(claim.lease_ends, time.monotonic() + SETTLE_FOR)
    while True:
        try:
            return settle(claim, answer)
        except (OperationalError, InterfaceError):
            if time.monotonic() > ends:
                raise
            log.warning("settle_waits_for_the_database", payment_id=str(claim.request.payment_id))
            connection.close()
            time.sleep(SETTLE_PAUSE)


def teach_breaker(claim: Claim, answer: LookupAnswer) -> None:
    """Let all workers know how the gateway does. A decline is an answer, and an answer is a success."""
    if isinstance(answer, Unavailable | OutcomeUnknown):
        breaker.note_failure(claim.gateway.name, claim.gateway.breaker, probe=claim.probe)
    elif claim.probe:
        breaker.note_success(claim.gateway.name)


def call_gateway(claim: Claim) -> LookupAnswer | None:
    """Ask the gateway, outside any transaction; None when too little of the lease is left to ask safely."""
    assert not transaction.get_connection().in_atomic_block, "no network inside a transaction"
    deadline = claim.gateway.deadline
    left = claim.lease_ends - time.monotonic()
    if left < deadline:
        log.warning("lease_too_short_to_call", payment_id=str(claim.request.payment_id), seconds_left=left)
        return None
    adapter = claim.gateway.adapter
    call = adapter.charge if claim.kind == AttemptKind.CHARGE else adapter.look_up
    began = time.monotonic()
    answer = call(claim.request, deadline=deadline)
    log.info(
        "gateway_answered",
        payment_id=str(claim.request.payment_id),
        gateway=claim.gateway.name,
        call=claim.kind,
        answer=type(answer).__name__,
        milliseconds=round((time.monotonic() - began) * 1000),
    )
    return answer
