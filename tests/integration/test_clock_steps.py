"""The database's clock is set forward or back by an hour, and the worker's machine is suspended."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.db.models import F
from django.db.models.functions import Now

from messaging import clock_steps, relay
from messaging.models import ClockMark, OutboxMessage
from payments.gateways.base import NotFound, OutcomeUnknown, Unavailable
from payments.models import Payment
from payments.operations import process_payments
from payments.operations.schedule import LOOKUP_DELAYS
from tests.chaos.clock import shift, times_of
from tests.chaos.victim import Recorder
from tests.claiming import call_now, claim_one, settle_one

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def set_forward(payment, by=HOUR):
    """What is stored of a payment looks older by as much as the clock was set forward."""
    later = {"lease_expires_at": F("lease_expires_at") - by, "next_attempt_at": F("next_attempt_at") - by}
    Payment.objects.filter(pk=payment.pk).update(**later, revive_at=F("revive_at") - by)
    shift(payment.attempts.all(), times_of(payment.attempts.model), by.total_seconds())


def set_back(by=HOUR):
    """Everything that is stored lies as far in the future as the clock was set back."""
    clock_steps.run_once()
    ClockMark.objects.update(latest_at=F("latest_at") + by)
    columns = ("lease_expires_at", "next_attempt_at", "revive_at")
    Payment.objects.update(**{column: F(column) + by for column in columns})
    OutboxMessage.objects.update(available_at=F("available_at") + by)


def answered(payment, answer):
    following = settle_one(claim_one(payment.pk), answer)
    payment.refresh_from_db()
    return following


# --- forward


def test_a_step_forward_during_a_call_sends_nothing_twice(accept, sandbox):
    """The lease looks expired while the gateway still works on the request, and does not find it yet."""
    payment = accept()
    first = claim_one(payment.pk)
    set_forward(payment)
    assert answered(payment, NotFound()) is None
    assert payment.status == "unknown"
    for seconds in (first.gateway.deadline + 2, 0):
        set_forward(payment, timedelta(seconds=seconds))
        make_due(payment)
        assert answered(payment, NotFound()) is None, "sent again while the first request may be under way"
    assert payment.charge_attempts == 1


def test_after_a_lease_and_the_grace_period_the_request_is_sent_again(accept, sandbox):
    payment = accept()
    first = claim_one(payment.pk)
    set_forward(payment)
    answered(payment, NotFound())
    set_forward(payment, first.gateway.lease + first.gateway.adapter.grace_period)
    make_due(payment)
    assert answered(payment, NotFound()).kind == "charge"


def test_the_answer_to_the_first_request_settles_after_the_step(accept, sandbox):
    payment = accept()
    first = claim_one(payment.pk)
    set_forward(payment)
    answered(payment, NotFound())
    assert settle_one(first, call_now(first)) is None
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert len(sandbox.charges()) == 1


def make_due(payment):
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now() - HOUR)


def test_a_clock_that_was_set_back_by_an_hour_does_not_lengthen_the_key_window(accept, sandbox):
    payment = accept()
    window = claim_one(payment.pk).gateway.adapter.key_window
    settle_one_as_unknown(payment)
    almost = Now() - window + timedelta(minutes=50)
    payment.attempts.update(started_at=almost, finished_at=almost)
    make_due(payment)
    assert answered(payment, NotFound()) is None
    assert payment.charge_attempts == 1


def settle_one_as_unknown(payment):
    payment.attempts.update(finished_at=Now(), outcome="unknown")
    Payment.objects.filter(pk=payment.pk).update(status="unknown", lease_expires_at=None, next_attempt_at=Now())


# --- back


def test_a_step_back_delays_no_message(accept):
    accept()
    set_back()
    recorder = Recorder()
    assert relay.run_once(recorder) == 0
    clock_steps.run_once()
    relay.run_once(recorder)
    assert len(recorder.ids) == 1


@pytest.mark.parametrize(("answer", "delay"), [(Unavailable(detail="503"), 2), (OutcomeUnknown(detail="x"), 2)])
def test_a_step_back_delays_no_retry_and_no_look_up(accept, sandbox, answer, delay):
    payment = accept()
    answered(payment, answer)
    set_back()
    clock_steps.run_once()
    payment.refresh_from_db()
    assert payment.next_attempt_at - payment.attempts.get().finished_at <= max(2 * LOOKUP_DELAYS[0], HOUR / 60)
    assert payment.revive_at - payment.next_attempt_at < HOUR


def test_a_step_back_lengthens_no_lease(accept):
    payment = accept()
    lease = claim_one(payment.pk).gateway.lease
    set_back()
    clock_steps.run_once()
    payment.refresh_from_db()
    assert payment.lease_expires_at - payment.attempts.get().started_at <= lease + clock_steps.TOLERANCE
    assert claim_one(payment.pk) is None, "a live lease is still one"


def test_what_is_due_already_and_small_steps_move_nothing(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="x"))
    before = Payment.objects.values().get()
    clock_steps.run_once()
    ClockMark.objects.update(latest_at=F("latest_at") + clock_steps.TOLERANCE / 2)
    assert clock_steps.run_once() == 0
    assert Payment.objects.values().get() == before


def test_of_two_relays_one_moves_the_schedules(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="x"))
    set_back(timedelta(days=2))

    def run():
        try:
            return clock_steps.run_once()
        finally:
            connections.close_all()

    together = threading.Barrier(2)
    moved = []
    threads = [threading.Thread(target=lambda: (together.wait(), moved.append(run()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(bool, moved)) == [False, True]
    payment.refresh_from_db()
    assert payment.next_attempt_at > payment.attempts.get().finished_at - timedelta(days=1)


def test_every_scheduled_column_is_listed(settings):
    """What has a time at which it is due must be moved with the clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND column_name = ANY(%s)",
            [
                [
                    "available_at",
                    "revive_at",
                    "next_attempt_at",
                    "lease_expires_at",
                    "open_until",
                    "probing_until",
                    "stuck_check_at",
                ]
            ],
        )
        found = {name for (name,) in cursor.fetchall()}
    assert found == {f"{table}.{column}" for table, columns in settings.SCHEDULED_COLUMNS.items() for column in columns}


# --- suspended


def test_a_worker_that_was_suspended_past_its_lease_makes_no_call(accept, sandbox, monkeypatch):
    claim = claim_one(accept().pk)
    resumed = claim.lease_ends - claim.gateway.deadline + 1
    monkeypatch.setattr("payments.operations.process.clock.elapsed_seconds", lambda: resumed)
    assert call_now(claim) is None
    assert sandbox.charges() == []


def test_a_suspended_worker_charges_nothing_twice(accept, sandbox, monkeypatch):
    payment = accept()
    claim = claim_one(payment.pk)
    set_forward(payment, claim.gateway.lease)
    process_payments(payment_ids=[payment.pk])
    monkeypatch.setattr("payments.operations.process.clock.elapsed_seconds", lambda: claim.lease_ends)
    assert call_now(claim) is None
    assert sandbox.charges() == []
