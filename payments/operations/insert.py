"""Step 1's one statement: for each candidate that is new its key, payment, first event and messages; for each that
repeats another, the answer of then.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import connection, transaction

from messaging import doorbell, outbox, records
from payments import idempotency, transitions
from payments.errors import IdempotencyKeyReused
from payments.gateways import registry
from payments.idempotency import Answer
from payments.models import Payment
from payments.operations.wishes import Candidate
from payments.reads import PaymentView, path_of, represent

#: A key is claimed unless another payment has the order already, and there is nothing stored under the key to repeat:
#: such a conflict would undo the whole statement. Who is left out, and who meets an order that is being taken at this
#: very moment, is looked at alone. Of what is refused, unless it repeats another, only the key is written and rolled
#: back: who asks far too often must not fill the large tables with dead rows.
#:
#: OFFSET 0 keeps PostgreSQL from reading all payments into a table of hashes, as it would for some ten thousand: it
#: expects a hundred wishes, and mostly there is one.
STATEMENT: Final = f"""
    WITH patience AS MATERIALIZED (
        SELECT set_config('lock_timeout', coalesce(%(patience)s, current_setting('lock_timeout')), true)
    ), asked AS MATERIALIZED (
        SELECT wish.*, order_id = ''
            OR NOT EXISTS (
                SELECT FROM payments_payment AS holder
                WHERE holder.merchant_id = wish.merchant_id AND holder.mode = wish.mode
                    AND holder.order_id = wish.order_id AND holder.holds_order AND holder.order_id <> ''
                OFFSET 0
            )
            OR EXISTS (
                SELECT FROM payments_idempotencykey AS stored
                WHERE stored.merchant_id = wish.merchant_id AND stored.key = wish.key
                OFFSET 0
            ) AS claims
        FROM json_to_recordset(%(wishes)s::json) AS wish (
            number int, id uuid, merchant_id uuid, mode text, order_id text, key text, fingerprint bytea,
            status_code int, body text, location text, revive_after interval, charge_within interval, refused boolean
        ), patience
    ), {idempotency.CLAIMED}, happened AS (
        SELECT
            asked.id,
            statement_timestamp() + asked.revive_after AS revive_at,
            statement_timestamp() + asked.charge_within AS charge_before
        FROM asked
        JOIN claimed ON claimed.payment_id = asked.id
        WHERE NOT asked.refused
    ), {transitions.NEW_PAYMENTS}, {transitions.NEW_EVENTS}, {outbox.STAGED}
    SELECT
        asked.number, claimed.fingerprint, claimed.status_code, claimed.body, claimed.location,
        claimed.payment_id IS DISTINCT FROM asked.id AS replayed
    FROM asked
    JOIN claimed USING (merchant_id, key)
"""  # noqa: S608  # put together of our own parts  # nosec B608
#: For how long (ms) a statement waits that many share: far above the milliseconds that an accept takes. Whoever has to
#: wait for longer goes on alone.
PATIENCE: Final = 100


Settled = dict[int, Answer | IdempotencyKeyReused]


def insert_or_replay(candidates: Sequence[Candidate], *, patience: int | None = None) -> Settled:
    """`insert_durably`, and notify the relay of what is new, which must not fail or delay the commit."""
    settled = insert_durably(candidates, patience=patience)
    if any(isinstance(outcome, Answer) and not outcome.replayed for outcome in settled.values()):
        doorbell.bell.ring()
    return settled


@transaction.atomic(durable=True)
def insert_durably(candidates: Sequence[Candidate], *, patience: int | None = None) -> Settled:
    """Return what becomes of those candidates that the statement settles, by their place in the list.

    No two of them may claim the same key or order. A duplicate request waits at the key until the first one commits,
    and then gets its answer. It waits up to the connection's `lock_timeout`, or `patience` (ms).

    Raises:
        Refused: a candidate that is new has been refused before; nothing was done for any of them.
    """
    settled = run(candidates, patience=patience)
    for number, candidate in enumerate(candidates):
        if candidate.refusal is not None and is_new(settled.get(number)):
            raise candidate.refusal
    return settled


@transaction.atomic(durable=True)
def new_among(candidates: Sequence[Candidate], *, patience: int) -> set[int]:
    """Where those are that repeat nothing. Nothing of them all is done, but while it looks their keys are theirs."""
    settled = run(candidates, patience=patience)
    transaction.set_rollback(True)
    return {number for number in range(len(candidates)) if is_new(settled.get(number))}


def is_new(outcome: Answer | IdempotencyKeyReused | None) -> bool:
    """Whether nothing was stored before under the key."""
    return outcome is None or (isinstance(outcome, Answer) and not outcome.replayed)


def run(candidates: Sequence[Candidate], *, patience: int | None) -> Settled:
    """Run the statement."""
    wait = None if patience is None else f"{patience}ms"
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT, {**parameters(candidates), "patience": wait})
        return {number: outcome_of(candidates[number], *stored) for number, *stored in cursor.fetchall()}


def parameters(candidates: Sequence[Candidate]) -> dict[str, str]:
    """All of them, in JSON."""
    views = [represent(candidate.payment) for candidate in candidates]
    rows = transitions.begin([candidate.payment for candidate in candidates], views)
    rows["messages"] += [message_of(candidate.payment) for candidate in candidates]
    rows["wishes"] = [
        wish_of(number, candidate, view) for number, (candidate, view) in enumerate(zip(candidates, views, strict=True))
    ]
    return {name: records.document(listed) for name, listed in rows.items()}


def message_of(payment: Payment) -> dict[str, Any]:
    """What brings it to a worker."""
    message = outbox.to_actor("payment.due", {"ids": [str(payment.pk)]})
    return {"about": payment.pk, **outbox.row(**message, request_id=payment.request_id)}


def wish_of(number: int, candidate: Candidate, view: PaymentView) -> dict[str, Any]:
    """A row of `asked`: the claim, and its answer, which is the payment as it is at first."""
    payment = candidate.payment
    return {
        "number": number,
        "id": payment.pk,
        "merchant_id": payment.merchant_id,
        "mode": payment.mode,
        "order_id": payment.order_id,
        "key": candidate.key,
        "fingerprint": candidate.print_,
        "status_code": 202,
        "body": orjson.dumps(view).decode(),
        "location": path_of(payment),
        "revive_after": f"{settings.REVIVE_AFTER} seconds",
        "charge_within": f"{registry.get(payment.gateway).max_age.total_seconds()} seconds",
        "refused": candidate.refusal is not None,
    }


def outcome_of(
    candidate: Candidate, fingerprint: bytes, status_code: int, body: str, location: str, replayed: bool
) -> Answer | IdempotencyKeyReused:
    """What is stored under the key, if it was for the same request."""
    try:
        idempotency.require_same(candidate.print_, fingerprint)
    except IdempotencyKeyReused as refusal:
        return refusal
    return Answer(status_code, body, location, replayed=replayed)
