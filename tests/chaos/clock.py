"""Time is not waited for: everything that has a time in the database is shifted into the past."""

from datetime import timedelta
from uuid import UUID

from django.db.models import DateTimeField, F

from messaging.models import OutboxMessage, Resolution
from payments.models import Attempt, GatewayCircuit, Payment

#: The history of a payment stays, and a trigger holds the first of them.
KEPT = {"created_at", "finished_at", "charge_before"}


def times_of(model, *, kept=frozenset()):
    return [field.name for field in model._meta.fields if isinstance(field, DateTimeField) and field.name not in kept]


def pass_time(payment_id: UUID | None, seconds: float) -> None:
    """So many seconds pass for one payment (None: for all), its attempts, the outbox, resolutions and gateways."""
    this = {} if payment_id is None else {"pk": payment_id}
    of_this = {} if payment_id is None else {"payment": payment_id}
    shift(Payment.objects.filter(**this), times_of(Payment, kept=KEPT), seconds)
    shift(Attempt.objects.filter(**of_this), times_of(Attempt), seconds)
    shift(OutboxMessage.objects.all(), times_of(OutboxMessage), seconds)
    shift(Resolution.objects.all(), ["revive_at"], seconds)
    shift(GatewayCircuit.objects.all(), times_of(GatewayCircuit), seconds)


def shift(rows, names: list[str], seconds: float) -> None:
    rows.update(**{name: F(name) - timedelta(seconds=seconds) for name in names})
