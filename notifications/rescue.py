"""Whatever got stuck on its way to a recipient is staged again. Runs beside the relay, every few seconds.

Each pending delivery carries the time at which it must be looked at if nothing has moved by then (a CHECK holds
that): a message lost with its broker, a worker that died with its lease, an attempt that is due.
"""

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from messaging import outbox
from notifications.models import Channel
from notifications.routes import topic_of

#: Deliveries per round, in one transaction of some 50 ms.
LIMIT: Final = 500
#: Rounds in a row. More is due only where a slow endpoint has thousands waiting; whoever stands behind them in the
#: order of time waits for minutes if this is too small, and new events for seconds if it is too large.
ROUNDS: Final = 10
#: Waiting again for as long as it has waited so far doubles the wait without a count, up to this (s).
LONGEST_WAIT: Final = 600

TAKE_DUE: Final = """
    WITH due AS (
        SELECT id FROM notifications_delivery
        WHERE revive_at <= %(now)s
        ORDER BY revive_at
        LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE notifications_delivery AS delivery
    SET revive_at = %(now)s + least(
        greatest(%(now)s - delivery.next_attempt_at, %(first_wait)s * interval '1 second'),
        %(longest_wait)s * interval '1 second')
    FROM due
    WHERE delivery.id = due.id
    RETURNING delivery.id::text, delivery.channel, delivery.endpoint_id, delivery.request_id
"""


def run(*, limit: int = LIMIT) -> int:
    """Stage what is overdue, in several rounds where it is much; returns how many. Runs beside the relay."""
    staged = 0
    for _ in range(ROUNDS):
        staged += (count := run_once(limit=limit))
        if count < limit:
            break
    return staged


@transaction.atomic(durable=True)
def run_once(*, limit: int = LIMIT, now: datetime | None = None) -> int:
    """Stage the deliveries that are overdue; returns how many. One message has a whole endpoint looked after."""
    wait = {"limit": limit, "first_wait": settings.REVIVE_AFTER, "longest_wait": LONGEST_WAIT}
    with connection.cursor() as cursor:
        cursor.execute(TAKE_DUE, {"now": now or timezone.now(), **wait})
        due = cursor.fetchall()
    messages = {(endpoint or id_): (channel, id_, request_id) for id_, channel, endpoint, request_id in due}
    for channel in Channel:
        chosen = [({"ids": [id_]}, request_id) for of, id_, request_id in messages.values() if of == channel]
        if chosen:
            outbox.stage_many(topic_of(channel), chosen)
    return len(due)
