"""Step 1: accept. The idempotency key, the payment, its first event and the messages are one statement.

Many wishes share it. What it does not settle is settled alone afterwards, so that nobody waits for somebody else's
trouble, or fails by it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import structlog
from django.db import IntegrityError, OperationalError

from merchants.models import Merchant, Mode
from merchants.sharing import Sharing
from messaging.database_errors import constraint_of, is_contention, is_retryable, is_row_lock_timeout
from payments.errors import IdempotencyKeyInUse, OrderAlreadyPaid, OrderConflict, OrderPaymentActive
from payments.idempotency import Answer
from payments.models import Payment
from payments.operations.insert import PATIENCE, insert_or_replay, new_among
from payments.operations.wishes import Candidate, PaymentRequest, Wish, prepare
from payments.reads import payments_of

log = structlog.get_logger(__name__)

#: How often an order's holder may vanish between the conflict and our look at it before we ask the caller
#: to come again. Once happens when it fails at that moment; more is a storm.
MAX_RACES: Final = 3
#: For how long (ms) each of a list waits once another one has waited in vain: 500 twins of a request that hangs take
#: some seconds then, and no minute of one thread. Who still is in the way after that is told to come again.
IN_PASSING: Final = 5
#: The unique index that lets an order have one payment.
ORDER_INDEX: Final = "one_payment_holds_an_order"
#: Where another request with the same key, or for the same order, makes an accept wait. Any other lock that it waits
#: for is not the client's conflict, and the error is left as it is: 503.
CLAIMED_RELATIONS: Final = frozenset({"payments_idempotencykey", ORDER_INDEX})

T = TypeVar("T")
#: What becomes of a wish: an answer, a refusal, or the exception of a defect.
Outcome = Answer | Exception


def accept_payment(
    *,
    merchant: Merchant,
    mode: Mode,
    idempotency_key: str,
    request: PaymentRequest,
    request_id: str,
    now: datetime,
    admitted: bool = True,
) -> Answer:
    """Accept a payment, or repeat the answer of the request that first used the key. Only that is done for a request
    that the merchant's limit has not `admitted`.

    Raises:
        NoGateway, PaymentMethodRequired: the request cannot be carried out in this mode.
        IdempotencyKeyReused: the key belongs to another request.
        IdempotencyKeyInUse: the first request under the key did not finish in time; nothing was done.
        OrderPaymentActive, OrderAlreadyPaid: another payment has the order; nothing was done.
        AmountAboveCeiling, TooManyPayments, TooManyDeclines: a limit of the merchant or of the payer; nothing was done.
        OperationalError: the database is away, or another lock is held for too long, such as a migration's on a table.
    """
    wish = Wish(
        merchant=merchant,
        mode=mode,
        idempotency_key=idempotency_key,
        request=request,
        request_id=request_id,
        now=now,
        admitted=admitted,
    )
    candidate = prepare(wish)
    return accept_alone(candidate) if candidate.refusal else told(waiting.ask(candidate))


def accept_payments(wishes: Sequence[Wish]) -> list[Outcome]:
    """Accept many payments, each as `accept_payment` would, one after the other: of each its answer, its refusal, or
    the exception that it ran into.

    Raises:
        Error: a database error that is RETRY. Those that were accepted by then will be repetitions.
    """
    candidates = [attempt(partial(prepare, wish)) for wish in wishes]
    return list(accept_the_rest(candidates, accept_the_sound(candidates)))


def accept_at_once(wishes: Sequence[Wish]) -> list[Outcome | None]:
    """Accept by one statement as many as it takes; None for those that must go alone. Raises as `accept_payments`."""
    return accept_the_sound([attempt(partial(prepare, wish)) for wish in wishes])


def accept_the_sound(candidates: Sequence[Candidate | Exception]) -> list[Outcome | None]:
    """By one statement; what could not be prepared has its outcome."""
    settled = iter(accept_together([each for each in candidates if isinstance(each, Candidate)]))
    return [next(settled) if isinstance(each, Candidate) else each for each in candidates]


def accept_the_rest(
    candidates: Sequence[Candidate | Exception], outcomes: Sequence[Outcome | None]
) -> Iterator[Outcome]:
    """What becomes of each, in their order; those that have no outcome yet go alone."""
    patience: int | None = None
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        if outcome is None and isinstance(candidate, Candidate):
            alone = attempt(partial(accept_alone, candidate, patience=patience))
            if isinstance(alone, IdempotencyKeyInUse):
                patience = IN_PASSING  # who has waited for one that hangs has waited for all
            yield alone
        elif outcome is not None:
            yield outcome


def attempt(do: Callable[[], T]) -> T | Exception:
    """Return what it returns or raises; raise what is RETRY, as it would fail the others too."""
    try:
        return do()
    except Exception as error:
        if is_retryable(error):
            raise
        return error  # a defect of one payment must not fail the others


def accept_together(candidates: Sequence[Candidate]) -> list[Outcome | None]:
    """What becomes of each of them by one statement, and two for those above a limit; None for those that must go
    alone, after it.

    Raises:
        Error: a database error that is RETRY.
    """
    outcomes: list[Outcome | None] = [None] * len(candidates)
    for settled_by in (settle_the_refused, accept_the_first):
        for number, outcome in unless_contended(partial(settled_by, candidates)).items():
            outcomes[number] = outcome
    return outcomes


def unless_contended(settled: Callable[[], Mapping[int, Outcome]]) -> Mapping[int, Outcome]:
    """What it settles; nothing where others are in the way, or one of the list is at fault."""
    try:
        return settled()
    except Exception as error:
        if is_retryable(error) and not is_contention(error):
            raise
        log.info("accepted_alone", error=type(error.__cause__ or error).__name__)
        return {}


def settle_the_refused(candidates: Sequence[Candidate]) -> dict[int, Outcome]:
    """Of those that have a refusal what is new gets it, and what repeats another gets its answer. A list that is above
    a limit must not cost more than one below it.
    """
    listed = list(refused_by_key(candidates).values())
    asked = [candidates[numbers[0]] for numbers in listed]
    new = new_among(asked, patience=PATIENCE) if asked else set()
    refused = {number: candidates[number].refusal for place in new for number in listed[place]}
    known = [numbers[0] for place, numbers in enumerate(listed) if place not in new]
    return {number: refusal for number, refusal in refused.items() if refusal} | settle(candidates, known)


def refused_by_key(candidates: Sequence[Candidate]) -> dict[tuple[object, ...], list[int]]:
    """Where those are that are refused, by their keys; without those whose key one before them may take."""
    takers: set[tuple[object, ...]] = set()
    refused: dict[tuple[object, ...], list[int]] = {}
    for number, candidate in enumerate(candidates):
        key = (candidate.payment.merchant_id, candidate.key)
        if candidate.refusal is None:
            takers.add(key)
        elif key not in takers:
            refused.setdefault(key, []).append(number)
    return refused


def accept_the_first(candidates: Sequence[Candidate]) -> dict[int, Outcome]:
    """Of those that claim the same the first."""
    return settle(candidates, firsts(candidates))


def settle(candidates: Sequence[Candidate], chosen: Sequence[int]) -> dict[int, Outcome]:
    """What becomes of some of them by the statement."""
    settled = insert_or_replay([candidates[number] for number in chosen], patience=PATIENCE) if chosen else {}
    return {chosen[place]: outcome for place, outcome in settled.items()}


def firsts(candidates: Sequence[Candidate]) -> list[int]:
    """Those that the statement may take: they are not refused, and of several that claim the same the first."""
    claimed: set[tuple[object, ...]] = set()
    found = []
    for number, candidate in enumerate(candidates):
        claims = set(candidate.claims)
        if candidate.refusal is None and not claims & claimed:
            found.append(number)
        claimed |= claims
    return found


def accept_alone(candidate: Candidate, *, patience: int | None = None) -> Answer:
    """What becomes of one. Raises as `accept_payment` does."""
    for _ in range(MAX_RACES):
        try:
            settled = insert_or_replay([candidate], patience=patience)
        except OperationalError as error:
            if is_row_lock_timeout(error, CLAIMED_RELATIONS):
                raise IdempotencyKeyInUse from error
            raise
        except IntegrityError as error:
            if not breaks_order_rule(error):
                raise
            settled = {}
        if outcome := settled.get(0):
            return told(outcome)
        if conflict := find_order_conflict(candidate.payment):
            raise conflict
    raise IdempotencyKeyInUse


def told(outcome: Outcome) -> Answer:
    """The answer. Raises what it is otherwise."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


#: The requests of this process that wait at the same time.
waiting: Final[Sharing[Candidate, Outcome]] = Sharing(accept_together, accept_alone)


def breaks_order_rule(error: IntegrityError) -> bool:
    """Whether an insert failed because another payment holds the order."""
    return constraint_of(error) == ORDER_INDEX


def find_order_conflict(payment: Payment) -> OrderConflict | None:
    """The refusal that names the payment that holds the order, or None when it has just let go of it."""
    holder = (
        payments_of(payment.merchant, Mode(payment.mode)).filter(order_id=payment.order_id, holds_order=True).first()
    )
    if holder is None:
        return None
    refusal = OrderAlreadyPaid if holder.amount_captured else OrderPaymentActive
    return refusal(holder.pk)
