"""How long deliveries are kept: each stays a while as the record, and longer while somebody has to decide on it."""

from datetime import datetime

from django.db import transaction
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat

from messaging.models import DeadLetter
from notifications.models import Delivery


@transaction.atomic(durable=True)
def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of deliveries that ended before a time, with their attempts; returns how many.

    Never what is pending, nor what has failed and nobody has decided on. By the index on `created_at`: nothing ends
    before it begins.
    """
    old = Q(created_at__lt=before, finished_at__lt=before) & ~Q(state=Delivery.State.PENDING)
    undecided = Q(state=Delivery.State.FAILED) & Exists(open_letters())
    rows = Delivery.objects.filter(old).exclude(undecided).select_for_update(skip_locked=True)
    ids = list(rows.order_by("created_at").values_list("pk", flat=True)[:batch])
    Delivery.objects.filter(pk__in=ids).delete()
    return len(ids)


def open_letters() -> QuerySet[DeadLetter]:
    """The open dead letters of a delivery."""
    subject = Concat(Value("delivery:"), Cast(OuterRef("pk"), CharField()), output_field=CharField())
    return DeadLetter.objects.filter(subject=subject, state=DeadLetter.State.OPEN)
