"""What waited for a gateway goes ahead when that may be called again. Runs in the relay process, every few seconds.

Held payments do not ask by themselves: a backlog that asks an open breaker again and again grows into an
outage of its own.
"""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from messaging import outbox
from payments.breaker import State, state_of
from payments.models import GatewayCircuit

#: Payments released in one round: a gateway that has just come back is not run over by all that waited for it.
LIMIT: Final = 500

#: Those first that were sent least often: what the gateway refuses each time, for a reason of its own, must not be
#: the only probe for ever.
RELEASE: Final = """
    WITH free AS (
        SELECT id FROM payments_payment
        WHERE gateway = %(gateway)s AND held_since IS NOT NULL
        ORDER BY charge_attempts, held_since
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE payments_payment AS payment
    SET held_since = NULL, next_attempt_at = statement_timestamp(),
        revive_at = statement_timestamp() + %(backstop)s * interval '1 second'
    FROM free
    WHERE payment.id = free.id
    RETURNING payment.id, payment.request_id
"""


def run_once() -> int:
    """Stage what waited for gateways that may be called again; returns how many. Runs in the relay process.

    Where the breaker is half open, one payment goes ahead as the probe.
    """
    return sum(release(circuit) for circuit in GatewayCircuit.objects.annotate(database_now=Now()))


@transaction.atomic(durable=True)
def release(circuit: GatewayCircuit) -> int:
    """Stage one round of the payments that were held for a gateway, in the order of the query."""
    limit = room(circuit)
    if not limit:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(RELEASE, {"gateway": circuit.pk, "limit": limit, "backstop": settings.REVIVE_AFTER})
        released = cursor.fetchall()
    outbox.stage_many("payment.due", (({"ids": [str(payment_id)]}, request_id) for payment_id, request_id in released))
    return len(released)


def room(circuit: GatewayCircuit) -> int:
    """How many payments may go ahead now."""
    now: datetime = circuit.database_now  # type: ignore[attr-defined]  # annotated
    state = state_of(circuit, now=now)
    if state is State.HALF_OPEN:
        return int(circuit.probing_until is None or circuit.probing_until <= now)
    return LIMIT if state is State.IN_ORDER else 0
