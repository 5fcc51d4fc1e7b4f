"""Step 7: whatever got stuck is staged again. Runs in the relay process, every few seconds.

Each payment in work carries the time at which it must be looked at if nothing has moved by then (a CHECK
holds that): a message lost with its broker, a worker that died with its lease, a look-up that is due. The
claim then decides by the payment's state what to do, so a needless revival does nothing.
"""

from typing import Final

from django.conf import settings
from django.db import connection, transaction

from messaging import outbox

#: Payments per round; the next round comes within seconds.
LIMIT: Final = 500
#: Each revival without a claim in between doubles the wait up to this (s), so that a long backlog in RabbitMQ
#: is not staged again and again.
LONGEST_WAIT: Final = 600

TAKE_DUE: Final = """
    WITH due AS (
        SELECT id FROM payments_payment
        WHERE revive_at <= statement_timestamp()
        ORDER BY revive_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE payments_payment AS payment
    SET revivals = payment.revivals + 1,
        revive_at = statement_timestamp()
            + least(%(first_wait)s * 2 ^ least(payment.revivals, 20), %(longest_wait)s) * interval '1 second'
    FROM due
    WHERE payment.id = due.id
    RETURNING payment.id::text, payment.request_id
"""


#: Waiting again for as long as it has waited so far doubles the wait without a count.
TAKE_DUE_EVENTS: Final = """
    UPDATE payments_gatewayevent
    SET revive_at = statement_timestamp() + least(
        greatest(statement_timestamp() - received_at, %(first_wait)s * interval '1 second'),
        %(longest_wait)s * interval '1 second')
    WHERE id IN (
        SELECT id FROM payments_gatewayevent
        WHERE revive_at <= statement_timestamp()
        ORDER BY revive_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, ''
"""


def run_once(*, limit: int = LIMIT) -> int:
    """Stage the payments and the gateways' events that are overdue; returns how many."""
    return rescue("payment.due", TAKE_DUE, limit) + rescue("gateway_event.received", TAKE_DUE_EVENTS, limit)


@transaction.atomic(durable=True)
def rescue(topic: str, take_due: str, limit: int) -> int:
    """Stage what a query finds overdue and marks as taken."""
    with connection.cursor() as cursor:
        cursor.execute(take_due, {"limit": limit, "first_wait": settings.REVIVE_AFTER, "longest_wait": LONGEST_WAIT})
        due = cursor.fetchall()
    outbox.stage_many(topic, (({"ids": [id_]}, request_id) for id_, request_id in due))
    return len(due)
