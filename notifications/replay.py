"""What dead letters need to know of deliveries, for the setting `DEAD_LETTER_OWNERS`: which may go back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from django.db import connection
from django.utils import timezone

from messaging.judgements import Judgement, Verdict, valid
from notifications import attempts, endpoints
from notifications.models import Delivery
from notifications.redelivery import as_new

NO_SUCH_DELIVERY: Final = Judgement(Verdict.BLOCKED, "there is no such delivery any more")
DISABLED: Final = Judgement(Verdict.BLOCKED, "its webhook endpoint is disabled; enable it first")
DELETED: Final = Judgement(Verdict.BLOCKED, "its webhook endpoint is deleted; discard the letter")
UNDER_WAY: Final = Judgement(Verdict.SETTLED, "it is under way again")
DELIVERED: Final = Judgement(Verdict.SETTLED, "it has been delivered")
GOES: Final = Judgement(Verdict.GOES)

#: An open letter whose delivery has arrived since, by a redelivery or a late answer, needs nobody. Letters are few:
#: each delivery is found by its key. A letter that somebody has locked is left to them.
SUPERSEDE: Final = """
    WITH settled AS (
        SELECT letter.id
        FROM messaging_deadletter AS letter JOIN notifications_delivery AS delivery ON delivery.id =
            CASE WHEN letter.subject ~ '^delivery:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                THEN substr(letter.subject, 10)::uuid END
        WHERE letter.state = 'open' AND delivery.state = 'delivered'
        FOR NO KEY UPDATE OF letter SKIP LOCKED
    )
    UPDATE messaging_deadletter AS letter
    SET state = 'superseded', resolved_at = statement_timestamp(), note = 'it has been delivered'
    FROM settled
    WHERE letter.id = settled.id
"""


class Deliveries:
    """The owner of letters about deliveries."""

    def judge(self, ids: Sequence[str]) -> Mapping[str, Judgement]:
        """What a replay would do, for each delivery; one query."""
        known = Delivery.objects.select_related("endpoint").in_bulk(valid(ids))
        found = {str(delivery.pk): judge(delivery) for delivery in known.values()}
        return {id_: found.get(id_, NO_SUCH_DELIVERY) for id_ in ids}

    def send_back(self, id_: str, *, now: datetime) -> Judgement:
        """Make the delivery ready for its message. Endpoint before delivery, as everybody locks them."""
        delivery = Delivery.objects.filter(pk__in=valid([id_])).first()
        if delivery is None:
            return NO_SUCH_DELIVERY
        if delivery.endpoint_id:
            endpoints.lock(delivery.endpoint_id)
        locked = Delivery.objects.select_for_update(no_key=True, of=("self",)).select_related("endpoint")
        judgement = judge(locked.get(pk=delivery.pk))
        if judgement.verdict == Verdict.GOES:
            Delivery.objects.filter(pk=delivery.pk).update(**as_new(now=now))
        return judgement


OWNER: Final = Deliveries()


def judge(delivery: Delivery) -> Judgement:
    """The judgement on one. A delivery that a defect stopped is still pending, and its message is what it lacks."""
    if delivery.state == Delivery.State.DELIVERED:
        return DELIVERED
    if delivery.endpoint is not None and not delivery.endpoint.enabled:
        return DELETED if delivery.endpoint.deleted_at else DISABLED
    if delivery.state == Delivery.State.PENDING and is_in_hand(delivery):
        return UNDER_WAY
    return GOES


def is_in_hand(delivery: Delivery) -> bool:
    """Whether somebody is sending it now, or it waits for its time."""
    return not Delivery.objects.filter(attempts.may_be_claimed(now=timezone.now()), pk=delivery.pk).exists()


def supersede_settled() -> int:
    """Close the open letters whose deliveries have arrived; returns how many. Runs beside the relay."""
    with connection.cursor() as cursor:
        cursor.execute(SUPERSEDE)
        return int(cursor.rowcount)
