"""Step 7: nothing in work can be forgotten."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models.functions import Now

from messaging.models import OutboxMessage
from payments import rescue
from payments.models import Payment
from payments.operations import process_payments
from tests.claiming import call_now, claim_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)


def lose_message_and_wait(**columns):
    """The broker forgot everything, and the time of the rescue has come."""
    OutboxMessage.objects.all().delete()
    Payment.objects.update(revive_at=Now() - timedelta(seconds=1), **columns)


def rescued():
    return [message.payload["ids"][0] for message in work().order_by("id")]


def test_a_payment_whose_message_was_lost_is_staged_again(accept):
    payment = accept()
    lose_message_and_wait()
    assert rescue.run_once() == 1
    assert rescued() == [str(payment.pk)]
    assert work().get().request_id == payment.request_id


def test_a_payment_that_is_not_overdue_is_left_alone(accept):
    accept()
    assert rescue.run_once() == 0


def test_each_revival_waits_twice_as_long_up_to_ten_minutes(accept):
    payment = accept()
    waits = []
    for _ in range(6):
        lose_message_and_wait()
        rescue.run_once()
        payment.refresh_from_db()
        waits.append(round((payment.revive_at - work().get().created_at).total_seconds()))
    assert waits == [60, 120, 240, 480, 600, 600]


def test_a_claim_starts_the_waits_anew(accept):
    payment = accept()
    lose_message_and_wait(revivals=5)
    claim_one(payment.pk)
    payment.refresh_from_db()
    assert payment.revivals == 0
    assert payment.revive_at == payment.lease_expires_at


def test_a_payment_whose_worker_died_is_looked_up_and_settled(accept, sandbox):
    """Killed between the gateway's approval and the commit: the charge is there, our row does not know."""
    payment = accept()
    claim = claim_one(payment.pk)
    call_now(claim)
    lose_message_and_wait(lease_expires_at=Now() - timedelta(seconds=1))
    assert rescue.run_once() == 1
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert len(sandbox.charges(payment)) == 1


def test_a_final_payment_is_never_rescued(accept, sandbox):
    process_payments(payment_ids=[accept().pk])
    assert Payment.objects.get().revive_at is None


def test_several_rescuers_at_once_stage_each_payment_once(accept):
    for number in range(60):
        accept(key=f"key-{number}")
    lose_message_and_wait()

    def work(_):
        try:
            return sum(rescue.run_once(limit=7) for _ in range(10))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 60
    assert len(set(rescued())) == len(rescued()) == 60
