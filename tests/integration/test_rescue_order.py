"""What the rescue takes first when more is overdue than it takes at once, and how long it waits for the next time."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from messaging.models import OutboxMessage
from payments import rescue
from payments.models import GatewayEvent, Payment
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_longest_overdue_payments_are_taken_first(accept):
    payments = [accept(f"key-{number}") for number in range(4)]
    OutboxMessage.objects.all().delete()
    overdue = dict(zip([2, 4, 1, 3], payments, strict=True))
    for minutes in (1, 2, 3, 4):  # the table holds the least overdue first
        Payment.objects.filter(pk=overdue[minutes].pk).update(revive_at=Now() - timedelta(minutes=minutes))
    assert rescue.run_once(limit=2) == 2
    assert {message.payload["ids"][0] for message in work()} == {str(overdue[4].pk), str(overdue[3].pk)}


def event(number, *, received, overdue):
    return GatewayEvent.objects.create(
        gateway="sandbox", event_id=f"evt-{number}", body={}, received_at=Now() - received, revive_at=Now() - overdue
    )


def test_the_longest_overdue_events_of_a_gateway_are_taken_first():
    made = {
        minutes: event(minutes, received=timedelta(hours=1), overdue=timedelta(minutes=minutes))
        for minutes in (1, 3, 2)
    }
    assert rescue.run_once(limit=2) == 2
    assert {message.payload["ids"][0] for message in work()} == {made[3].pk, made[2].pk}


@pytest.mark.parametrize(
    ("received", "waits"),
    [(timedelta(seconds=1), 60), (timedelta(seconds=90), 90), (timedelta(hours=5), 600)],
)
def test_an_event_of_a_gateway_waits_as_long_as_it_has_waited_so_far_within_limits(settings, received, waits):
    settings.REVIVE_AFTER = 60
    event(1, received=received, overdue=timedelta(seconds=1))
    assert rescue.run_once() == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT revive_at FROM payments_gatewayevent")
        (revive_at,) = cursor.fetchone()
    staged = OutboxMessage.objects.get().created_at
    assert abs((revive_at - staged).total_seconds() - waits) < 1
    assert revive_at > timezone.now()
