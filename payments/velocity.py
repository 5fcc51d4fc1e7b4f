"""Against card testing: who has had too many payments declined lately gets no more accepted for an hour.

Declines are counted where they happen, in the transaction that records them, so a payment that goes well costs
nothing. Acceptance looks at a copy of the blocks in force that each process renews at most once a second.
"""

import math
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from merchants import audit
from merchants.models import Mode
from payments.errors import TooManyDeclines
from payments.models import DeclineBlock, Payment

log = structlog.get_logger(__name__)

#: How old (s) the copy of the blocks may be: so much later than the decline a block begins or is lifted.
RENEW_EVERY: Final = 1.0

#: Declines count for an hour, and a block lasts an hour. They are looked at up to the ceiling and no further, by the
#: index `payment_declined_payer` or `payment_declined`; those before the last lift do not count. A block that is in
#: force stays as it is.
BLOCK: Final = """
    WITH rule AS (
        SELECT {ceiling} AS ceiling, greatest(%(now)s - interval '1 hour', (
            SELECT lifted_at FROM payments_declineblock
            WHERE merchant_id = %(merchant)s AND mode = %(mode)s AND user_id = %(user)s
        )) AS since
    ), declined AS (
        SELECT FROM payments_payment
        WHERE error_code = 'declined' AND merchant_id = %(merchant)s AND mode = %(mode)s {payer}
            AND finished_at > (SELECT since FROM rule)
        LIMIT (SELECT ceiling FROM rule)
    )
    INSERT INTO payments_declineblock AS block
        (merchant_id, mode, user_id, declines, began_at, ends_at, lifted_by, lift_reason)
    SELECT %(merchant)s, %(mode)s, %(user)s, count(*), %(now)s, %(now)s + interval '1 hour', '', '' FROM declined
    HAVING count(*) > 0 AND count(*) >= (SELECT ceiling FROM rule)  -- of 0, never
    ON CONFLICT (merchant_id, mode, user_id) DO UPDATE SET
        declines = excluded.declines, began_at = excluded.began_at, ends_at = excluded.ends_at,
        lifted_at = NULL, lifted_by = '', lift_reason = ''
    WHERE block.lifted_at IS NOT NULL OR block.ends_at <= %(now)s
"""
BLOCK_PAYER: Final = BLOCK.format(
    ceiling="coalesce((SELECT declines_per_payer FROM merchants_merchant WHERE id = %(merchant)s), %(ceiling)s)",
    payer="AND user_id = %(user)s AND user_id <> ''",
)
BLOCK_MERCHANT: Final = BLOCK.format(ceiling="%(ceiling)s::integer", payer="")


def count_decline(payment: Payment, *, now: datetime) -> None:
    """Block the payer, and the merchant, of a payment that was just declined, if that was one too many."""
    assert connection.in_atomic_block, "a decline is counted in the transaction that records it"
    if payment.user_id:
        block(BLOCK_PAYER, payment, user_id=payment.user_id, ceiling=settings.DECLINES_PER_PAYER, now=now)
    if settings.DECLINES_PER_MERCHANT:
        block(BLOCK_MERCHANT, payment, user_id="", ceiling=settings.DECLINES_PER_MERCHANT, now=now)


def block(statement: str, payment: Payment, *, user_id: str, ceiling: int, now: datetime) -> None:
    """Run one of the two statements, and say so where it blocks."""
    whose: dict[str, Any] = {"merchant": payment.merchant_id, "mode": payment.mode, "user": user_id}
    with connection.cursor() as cursor:
        cursor.execute(statement, {**whose, "ceiling": ceiling, "now": now})
        if cursor.rowcount:
            scope = "payer" if user_id else "merchant"
            log.warning("declines_blocked", scope=scope, merchant=str(payment.merchant_id), mode=payment.mode)


class BlocksInForce:
    """A copy of the blocks in force, for one process: (merchant, mode, payer) -> when it ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Ask anew at the next look."""
        self.ends: dict[tuple[object, str, str], datetime] = {}
        self.renew_at = float("-inf")

    def end_of(self, payment: Payment, user_id: str) -> datetime | None:
        """When the block of a payer, or with an empty name of the merchant, ends; None where there is none."""
        self.renew()
        return self.ends.get((payment.merchant_id, payment.mode, user_id))

    def renew(self) -> None:
        """Read them again when it is time. While one thread does, the others go by what was read before."""
        if self.clock() < self.renew_at or not self.lock.acquire(blocking=False):
            return
        try:
            self.renew_at = self.clock() + RENEW_EVERY
            rows = DeclineBlock.objects.filter(lifted_at=None, ends_at__gt=timezone.now())
            self.ends = {
                (merchant_id, mode, user_id): ends_at
                for merchant_id, mode, user_id, ends_at in rows.values_list("merchant_id", "mode", "user_id", "ends_at")
            }
        except BaseException:
            self.renew_at = float("-inf")
            raise
        finally:
            self.lock.release()


blocks_in_force = BlocksInForce()


def require_unblocked(payment: Payment, *, now: datetime) -> None:
    """Raises TooManyDeclines while the payer or the merchant of a new payment is blocked."""
    if payment.user_id:
        refuse_until(blocks_in_force.end_of(payment, payment.user_id), whole_merchant=False, now=now)
    refuse_until(blocks_in_force.end_of(payment, ""), whole_merchant=True, now=now)


def refuse_until(ends_at: datetime | None, *, whole_merchant: bool, now: datetime) -> None:
    """Raises TooManyDeclines if that lies ahead."""
    if ends_at is not None and ends_at > now:
        wait = math.ceil((ends_at - now).total_seconds())
        raise TooManyDeclines(whole_merchant=whole_merchant, retry_after=wait)


@transaction.atomic(durable=True)
def lift(*, block_id: int, reason: str, who: audit.Who, now: datetime) -> bool:
    """End a block before its time; False if it had ended. Declines from before then count no more."""
    found = DeclineBlock.objects.select_for_update(of=("self",)).select_related("merchant").filter(pk=block_id).first()
    if found is None or found.lifted_at is not None or found.ends_at <= now:
        return False
    found.lifted_at, found.lifted_by, found.lift_reason = now, who.actor[:150], reason
    found.save(update_fields=["lifted_at", "lifted_by", "lift_reason"])
    audit.record(
        who,
        "velocity.lift",
        subject=f"decline_block:{found.pk}",
        merchant=found.merchant,
        reason=reason,
        before={"mode": Mode(found.mode).value, "declines": found.declines, "ends_at": found.ends_at},
        after={"lifted_at": now},
    )
    return True
