"""Periodic work on unmatched charges, in the relay process. Each statement reads a small partial index."""

from typing import Final

import structlog
from django.conf import settings
from django.db import connection, transaction

from messaging import outbox
from payments import transitions
from payments.operations.claims import lock_payment
from payments.operations.database_clock import database_time
from payments.unmatched_charge import State

log = structlog.get_logger(__name__)

#: Rows per run and kind; the next run comes within seconds.
BATCH_SIZE: Final = 500
#: How long after a decision a payment can still get the same charge: a client's retry is answered with it within the
#: gateway's key window of a day, and an unknown outcome is looked up for less than six days.
WATCHED_SECONDS: Final = 14 * 86_400
#: State of the review -> the error code of a payment that got the charge all the same.
ERROR_CODES: Final = {
    State.ADOPTED: "charge_already_adopted",
    State.REFUNDING: "charge_already_refunded",
    State.REFUNDED: "charge_already_refunded",
}

#: An open review whose charge a payment has taken meanwhile, as by a client's retry under the same key.
CLOSE_MATCHED: Final = """
    WITH matched AS (
        SELECT charge.id, payment.id AS payment_id
        FROM payments_unmatchedcharge AS charge
        JOIN payments_payment AS payment
            ON payment.gateway_reference = charge.reference AND payment.gateway_reference <> ''
            AND payment.gateway = charge.gateway
            AND payment.amount_captured = charge.amount AND payment.currency = charge.currency
        WHERE charge.state = 'open'
        LIMIT %(limit)s
        FOR NO KEY UPDATE OF charge SKIP LOCKED
    )
    UPDATE payments_unmatchedcharge AS charge
    SET state = 'matched', payment_id = matched.payment_id, resolved_at = statement_timestamp(),
        resolved_by = 'system', resolution_reason = 'a payment has this charge now'
    FROM matched
    WHERE charge.id = matched.id
    RETURNING charge.reference
"""
#: A payment that got a charge which staff had adopted for another payment, or refunded.
CLAIMED_AGAIN: Final = """
    SELECT DISTINCT payment.id, charge.state, charge.reference
    FROM (
        SELECT state, gateway, reference, payment_id FROM payments_unmatchedcharge WHERE state = 'refunding'
        UNION ALL
        SELECT state, gateway, reference, payment_id FROM payments_unmatchedcharge
        WHERE state IN ('adopted', 'refunded')
            AND resolved_at > statement_timestamp() - %(watched_seconds)s * interval '1 second'
    ) AS charge
    JOIN payments_payment AS payment
        ON payment.gateway_reference = charge.reference AND payment.gateway_reference <> ''
        AND payment.gateway = charge.gateway
    WHERE payment.id IS DISTINCT FROM charge.payment_id AND payment.amount_captured > 0
        AND payment.error_code <> ALL(%(codes)s)
    LIMIT %(limit)s
"""
TAKE_OVERDUE: Final = """
    UPDATE payments_unmatchedcharge
    SET stuck_check_at = statement_timestamp() + %(again_seconds)s * interval '1 second'
    WHERE id IN (
        SELECT id FROM payments_unmatchedcharge
        WHERE stuck_check_at <= statement_timestamp()
        ORDER BY stuck_check_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id
"""


def close_matched(*, limit: int = BATCH_SIZE) -> int:
    """Close the open reviews whose charge a payment has now, and flag payments that got a resolved one."""
    with connection.cursor() as cursor:
        cursor.execute(CLOSE_MATCHED, {"limit": limit})
        closed = [reference for (reference,) in cursor.fetchall()]
    for reference in closed:
        log.info("unmatched_charge_matched", reference=reference)
    return len(closed) + flag_claimed_again(limit=limit)


def flag_claimed_again(*, limit: int = BATCH_SIZE) -> int:
    """Flag payments for review that got a charge which was adopted or refunded before; return how many."""
    with connection.cursor() as cursor:
        codes = sorted(set(ERROR_CODES.values()))
        cursor.execute(CLAIMED_AGAIN, {"limit": limit, "watched_seconds": WATCHED_SECONDS, "codes": codes})
        found = cursor.fetchall()
    for payment_id, state, reference in found:
        with transaction.atomic(durable=True):
            locked = lock_payment(payment_id)
            assert locked is not None, "payments are never deleted"
            code = ERROR_CODES[State(state)]
            transitions.flag_for_review(
                locked.payment, now=database_time(), error_code=code, error_detail=str(reference)
            )
        log.error("payment_needs_review", payment_id=str(payment_id), reason=code, reference=reference)
    return len(found)


@transaction.atomic(durable=True)
def queue_overdue_refunds(*, limit: int = BATCH_SIZE) -> int:
    """Queue the refunds whose next call is due, or whose message or worker was lost; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE_OVERDUE, {"limit": limit, "again_seconds": settings.REVIVE_AFTER})
        ids = [id_ for (id_,) in cursor.fetchall()]
    outbox.stage_many("unmatched_charge.refund_due", (({"ids": [id_]}, "") for id_ in ids))
    return len(ids)
