"""What the benchmark sends is what the product takes, and the past that it writes could have come about."""

import json

import pytest
from django.db import connection

from analytics import daily
from analytics.stretches import all_days
from bench.client import body_of
from bench.ours.drain import DRAINED, fault_of
from bench.ours.past import DAYS, STATEMENT
from payments.models import Attempt, IdempotencyKey, Payment, PaymentEvent
from payments.reads import represent
from payments.states import Status

#: See tests/doors.py.
BOTH_DOORS = True


def test_the_measured_request_is_not_refused(post):
    response = post(json.loads(body_of("NAME")), key="NAME")
    assert response.status_code == 202, response.content
    assert Payment.objects.get().order_id == "NAME"


def test_two_measured_requests_are_not_taken_for_one(post):
    for name in ("a-0-1", "a-0-2"):
        assert post(json.loads(body_of("NAME").replace("NAME", name)), key=name).status_code == 202
    assert Payment.objects.count() == 2


@pytest.fixture
def past(merchant):
    type(merchant).objects.filter(pk=merchant.pk).update(slug="demo")
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT.format(days=DAYS, total=28, first=0, last=27))
    return list(Payment.objects.order_by("id"))


def test_the_written_past_is_not_out_of_order(past):
    assert [payment.order_id for payment in past] == [f"past-{number}" for number in range(28)]
    assert [payment.created_at for payment in past] == sorted(payment.created_at for payment in past)


def test_the_written_past_lacks_nothing_that_a_payment_has(past):
    assert {payment.status for payment in past} == {Status.SUCCEEDED, Status.FAILED}
    assert all(represent(payment)["finished_at"] for payment in past)
    assert (Attempt.objects.count(), IdempotencyKey.objects.count(), PaymentEvent.objects.count()) == (28, 28, 84)


def test_the_metrics_do_not_miss_the_written_past(past):
    rows = sum(changed for _, changed in daily.compute_all(all_days(), dry_run=True, jobs=1))
    assert rows > 0


def test_payments_that_failed_are_not_drained(past):
    with connection.cursor() as cursor:
        cursor.execute(DRAINED, [past[0].created_at])
        done, failed, seconds = cursor.fetchone()
    assert (done + failed, done) == (28, Payment.objects.filter(status=Status.SUCCEEDED).count())
    assert failed
    assert seconds > 0


@pytest.mark.parametrize(("done", "failed", "left"), [(0, 0, 0), (9, 1, 0), (9, 0, 1)])
def test_a_drain_that_did_not_bring_all_to_success_cannot_look_like_a_fast_one(done, failed, left):
    assert fault_of(done=done, failed=failed, left=left)
    assert not fault_of(done=10, failed=0, left=0)
