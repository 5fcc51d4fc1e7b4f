"""What "retry now" counts and records."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from merchants.audit import by_shell
from merchants.models import AuditEntry
from payments.models import Payment
from payments.operations import retry_now
from payments.states import Status
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (Status.PROCESSING, {"retries": 3, "lookups": 5}, {"retries": 2, "lookups": 5}),
        (Status.UNKNOWN, {"retries": 3, "lookups": 5}, {"retries": 3, "lookups": 4}),
        (Status.PROCESSING, {"retries": 0, "lookups": 0}, {"retries": 0, "lookups": 0}),
        (Status.UNKNOWN, {"retries": 0, "lookups": 0}, {"retries": 0, "lookups": 0}),
    ],
)
def test_a_call_that_is_brought_forward_takes_one_from_the_count_of_its_kind(accept, status, before, after):
    payment = accept()
    Payment.objects.filter(pk=payment.pk).update(status=Status.PROCESSING)
    later = Now() + timedelta(hours=1)
    Payment.objects.filter(pk=payment.pk).update(status=status, next_attempt_at=later, revive_at=later, **before)
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"), reason="outage is over")
    payment.refresh_from_db()
    assert {"retries": payment.retries, "lookups": payment.lookups} == after
    assert work().filter(payload={"ids": [str(payment.pk)]}).exists()


def test_it_is_recorded_who_did_it_why_and_what_changed(accept):
    payment = accept()
    later = Now() + timedelta(hours=1)
    Payment.objects.filter(pk=payment.pk).update(status=Status.PROCESSING, next_attempt_at=later, revive_at=later)
    payment.refresh_from_db()
    due_at = payment.next_attempt_at
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"), reason="outage is over")
    payment.refresh_from_db()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.reason) == (
        "payment.taken_up_now", f"payment:{payment.pk}", "outage is over"
    )  # fmt: skip
    assert entry.merchant_id == payment.merchant_id
    assert due_at.isoformat()[:19] in str(entry.before)
    assert payment.next_attempt_at.isoformat()[:19] in str(entry.after)
    assert payment.next_attempt_at < due_at


def test_nothing_is_recorded_where_nothing_waits(accept):
    payment = accept()
    assert not retry_now(payment_id=payment.pk, who=by_shell("alice"))
    assert not AuditEntry.objects.exists()
