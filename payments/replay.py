"""What dead letters need to know of payments, for the setting `DEAD_LETTER_OWNERS`: which may go back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q

from messaging.judgements import Judgement, Verdict, valid
from payments.models import Payment
from payments.operations import replay
from payments.operations.replay import PAID_OTHERWISE, UNDER_WAY
from payments.states import Status

NO_SUCH_PAYMENT: Final = Judgement(Verdict.BLOCKED, "there is no such payment")

#: An open letter whose payment has gone its way since, by the rescue or by the gateway's own word, needs nobody.
#: The letters are few and the payments very many: each is found by its key. A letter that somebody has locked is left
#: to them: the relay does not wait, and whoever resolves letters locks them in an order of his own.
SUPERSEDE: Final = """
    WITH settled AS (
        SELECT letter.id, payment.status
        FROM messaging_deadletter AS letter JOIN payments_payment AS payment ON payment.id =
            CASE WHEN letter.subject ~ '^payment:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                THEN substr(letter.subject, 9)::uuid END
        WHERE letter.state = 'open'
            AND (payment.status IN ('succeeded', 'canceled') OR payment.amount_captured > 0
                 OR (payment.status = 'failed' AND payment.error_code <> ALL(%s)))
        FOR NO KEY UPDATE OF letter SKIP LOCKED
    )
    UPDATE messaging_deadletter AS letter
    SET state = 'superseded', resolved_at = statement_timestamp(), note = 'the payment is ' || settled.status
    FROM settled
    WHERE letter.id = settled.id
"""


class Payments:
    """The owner of letters about payments."""

    def judge(self, ids: Sequence[str]) -> Mapping[str, Judgement]:
        """What a replay would do, for each payment; one query."""
        payments = {str(payment.pk): payment for payment in with_holders(valid(ids))}
        return {id_: judge(payments[id_]) if id_ in payments else NO_SUCH_PAYMENT for id_ in ids}

    def send_back(self, id_: str, *, now: datetime) -> Judgement:
        """Make the payment ready for its message; the time is the database's."""
        if not (known := valid([id_])):
            return NO_SUCH_PAYMENT
        judgement = replay.send_back(payment_id=known[0])
        # Only who finds no row to lock need ask whether there is one.
        missing = judgement.note == replay.IN_HAND and not Payment.objects.filter(pk=known[0]).exists()
        return NO_SUCH_PAYMENT if missing else judgement


OWNER: Final = Payments()


def with_holders(ids: Sequence[UUID]) -> Sequence[Payment]:
    """The payments, each knowing whether another payment of its order lives (`taken`) or has been paid (`paid`)."""
    others = Payment.objects.filter(
        ~Q(pk=OuterRef("pk")),
        ~Q(order_id=""),
        merchant=OuterRef("merchant"),
        mode=OuterRef("mode"),
        order_id=OuterRef("order_id"),
    )
    return list(
        Payment.objects.filter(pk__in=ids)
        # A preview judges very many.
        .only("status", "error_code", "amount", "amount_captured", "currency", "merchant_id", "mode", "order_id")
        # What was paid late need not hold its order: another payment may have had it then.
        .annotate(taken=Exists(others.filter(holds_order=True)), paid=Exists(others.filter(amount_captured__gt=0)))
    )


def judge(payment: Payment) -> Judgement:
    """The judgement on one of `with_holders`."""
    judgement = replay.judge(payment)
    if judgement.verdict != Verdict.GOES or payment.status != Status.FAILED:
        return judgement
    if payment.paid:  # type: ignore[attr-defined]  # annotated
        return Judgement(Verdict.SETTLED, PAID_OTHERWISE)
    if payment.taken:  # type: ignore[attr-defined]  # annotated
        return replace(judgement, verdict=Verdict.BLOCKED, note=UNDER_WAY)
    return judgement


def supersede_settled() -> int:
    """Close the open letters whose payments are settled; returns how many. Runs in the relay process."""
    with connection.cursor() as cursor:
        cursor.execute(SUPERSEDE, [sorted(replay.REPLAYABLE)])
        return int(cursor.rowcount)
