"""Steps 3 to 5: the claim table, the outcome classes, and what each may lead to."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from messaging.models import DeadLetter, OutboxMessage
from payments.gateways import registry
from payments.gateways.base import Approved, Declined, NotFound, OutcomeUnknown, Unavailable
from payments.models import Payment
from payments.operations import process_payments
from payments.operations.process import end_of, settle_surely
from payments.operations.schedule import LOOKUP_DELAYS
from payments.operations.settle import Answered
from tests.claiming import call_now, claim_one, settle_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)


def process(payment):
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    return payment


def make_due(payment, **columns):
    """Let the time pass at which the payment is taken up again."""
    Payment.objects.filter(pk=payment.pk).update(**(columns or {"next_attempt_at": HOUR_AGO}))
    payment.refresh_from_db()


def outcomes(payment):
    return [f"{attempt.kind} {attempt.outcome}" for attempt in payment.attempts.order_by("id")]


def events(payment):
    return [event.type.removeprefix("payment.") for event in payment.events.order_by("version")]


# --- what the gateway answers, and where it leads


def test_an_approved_payment_succeeds_with_one_charge(accept, sandbox):
    payment = process(accept(order_id="o-1", amount=1234))
    assert payment.status == "succeeded"
    assert (payment.amount_captured, payment.charge_attempts) == (1234, 1)
    assert payment.lease_expires_at is payment.revive_at is payment.next_attempt_at is None
    assert payment.finished_at is not None
    assert events(payment) == ["created", "processing", "succeeded"]
    charge = sandbox.charges()[0]
    assert (charge["payment_id"], charge["amount"], charge["order_id"], charge["merchant"]) == (
        str(payment.pk),
        1234,
        "o-1",
        "shop",
    )
    assert charge["idempotency_key"] == f"{payment.gateway_key_base}:charge:1"


def test_a_declined_payment_fails_at_once_and_is_no_dead_letter(accept, sandbox):
    payment = process(accept(payment_method="pm_declined", order_id="o-1"))
    assert (payment.status, payment.error_code, payment.decline_code) == ("failed", "declined", "card_declined")
    assert not payment.holds_order
    assert work().count() == 1  # the first message; nothing was staged for a retry
    assert not DeadLetter.objects.exists()
    assert sandbox.charges() == []


def test_an_unavailable_gateway_is_tried_again_later_with_the_same_key(accept, sandbox):
    payment = accept(payment_method="pm_flaky_2")
    OutboxMessage.objects.all().delete()
    process(payment)
    assert (payment.status, payment.retries, payment.error_code) == ("processing", 1, "gateway_unavailable")
    assert payment.lease_expires_at is None
    message = work().get()
    assert message.available_at == payment.next_attempt_at
    assert message.request_id == payment.request_id
    for _ in range(2):
        make_due(payment)
        process(payment)
    assert payment.status == "succeeded"
    assert outcomes(payment) == ["charge unavailable", "charge unavailable", "charge approved"]
    assert payment.attempts.values("gateway_key").distinct().count() == 1
    assert len(sandbox.charges(payment)) == 1
    assert payment.error_code == ""


def test_retries_wait_one_two_and_four_seconds_and_up_to_twice_that(accept, sandbox):
    payment = accept(payment_method="pm_down")
    for base in (1, 2, 4):
        process(payment)
        waited = (payment.next_attempt_at - payment.attempts.latest("id").finished_at).total_seconds()
        assert base <= waited <= 2 * base
        make_due(payment)


def test_a_gateway_that_stays_down_fails_the_payment_with_one_dead_letter(accept, sandbox):
    payment = accept(payment_method="pm_down", order_id="o-1")
    for _ in range(4):
        process(payment)
        make_due(payment) if payment.status == "processing" else None
    assert (payment.status, payment.error_code, payment.charge_attempts) == ("failed", "retries_exhausted", 4)
    assert not payment.holds_order
    letter = DeadLetter.objects.get()
    assert letter.subject == f"payment:{payment.pk}"
    assert (letter.cause, letter.attempts, letter.actor) == ("retries_exhausted", 4, "process_payments")
    assert letter.payload == {"ids": [str(payment.pk)]}
    assert letter.first_failed_at <= letter.last_failed_at


def test_a_refused_connection_proves_that_nothing_was_taken(accept, sandbox):
    payment = accept()
    sandbox.stop()
    process(payment)
    assert (payment.status, payment.retries) == ("processing", 1)
    assert outcomes(payment) == ["charge unavailable"]


def test_a_charge_without_an_answer_is_looked_up_and_never_sent_again(accept, sandbox):
    payment = process(accept(payment_method="pm_reset"))
    assert payment.status == "unknown"
    assert payment.holds_order
    assert (payment.next_attempt_at - payment.attempts.get().finished_at) == LOOKUP_DELAYS[0]
    make_due(payment)
    process(payment)
    assert payment.status == "succeeded"
    assert outcomes(payment) == ["charge unknown", "lookup approved"]
    assert len(sandbox.charges(payment)) == 1
    assert events(payment) == ["created", "processing", "unknown", "succeeded"]


def test_an_unreachable_look_up_changes_nothing_and_is_repeated_on_schedule(accept, sandbox):
    payment = process(accept(payment_method="pm_reset"))
    sandbox.stop()
    for delay in LOOKUP_DELAYS[1:]:
        make_due(payment)
        process(payment)
        assert payment.status == "unknown"
        assert payment.next_attempt_at - payment.attempts.latest("id").finished_at == delay
        assert payment.revive_at >= payment.next_attempt_at
    make_due(payment)
    process(payment)
    assert payment.status == "unknown"
    assert payment.needs_review
    assert payment.next_attempt_at is payment.revive_at is None


def test_only_near_look_ups_are_staged_in_the_outbox(accept, sandbox):
    payment = process(accept(payment_method="pm_reset"))
    sandbox.stop()
    OutboxMessage.objects.all().delete()
    for _ in range(4):
        make_due(payment)
        process(payment)
    waits = [attempt.kind for attempt in payment.attempts.all()]
    assert len(waits) == 5
    assert work().count() == 1  # the one 30 s away; 2 min, 10 min and 1 h are the rescue's


def answered(payment, answer):
    """Claim a payment and settle it with an answer that the wire might have brought."""
    claim = claim_one(payment.pk)
    following = settle_one(claim, answer)
    payment.refresh_from_db()
    return following


def test_not_found_within_the_grace_period_is_not_believed(accept, sandbox):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    following = answered(payment, NotFound())
    assert following is None
    assert payment.status == "unknown"
    assert payment.next_attempt_at > payment.attempts.earliest("id").finished_at


def test_not_found_after_the_grace_period_sends_again_with_the_same_key(accept, sandbox):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    process(payment)
    assert payment.status == "succeeded"
    assert outcomes(payment) == ["charge unknown", "lookup not_found", "charge approved"]
    assert payment.attempts.values("gateway_key").distinct().count() == 1
    assert len(sandbox.charges(payment)) == 1


def test_past_the_key_window_nothing_is_ever_sent_again(accept, sandbox):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    payment.attempts.update(started_at=Now() - timedelta(days=2), finished_at=Now() - timedelta(days=2))
    process(payment)
    assert payment.status == "unknown"
    assert sandbox.charges() == []


def test_exhausted_retries_do_not_fail_a_payment_that_may_have_been_charged(accept, sandbox):
    """One attempt under the key was abandoned by a dead worker: the rest being refused proves nothing."""
    payment = accept()
    claim = claim_one(payment.pk)
    settle_one(claim, Unavailable(detail="503"))
    ended = {"started_at": HOUR_AGO, "finished_at": HOUR_AGO, "outcome": "abandoned"}
    payment.attempts.create(kind="charge", gateway_key=payment.gateway_key, fence=0, **ended)
    Payment.objects.filter(pk=payment.pk).update(retries=3, next_attempt_at=HOUR_AGO)
    answered(payment, Unavailable(detail="503"))
    assert payment.status == "unknown"
    assert not DeadLetter.objects.exists()


def test_a_refused_look_up_leaves_an_unknown_payment_unknown(accept, sandbox):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    answered(payment, Unavailable(detail="429"))
    assert payment.status == "unknown"


def test_a_look_up_that_finds_a_decline_fails_the_payment(accept, sandbox):
    payment = accept(order_id="o-1")
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    answered(payment, Declined(decline_code="card_declined", detail="no"))
    assert (payment.status, payment.holds_order) == ("failed", False)


# --- the claim table


def test_claim_pending_is_charged(accept):
    claim = claim_one(accept().pk)
    assert (claim.kind, claim.fence) == ("charge", 1)
    payment = Payment.objects.get()
    assert payment.status == "processing"
    attempt = payment.attempts.get()
    assert attempt.finished_at is None
    assert payment.lease_expires_at - attempt.started_at == timedelta(seconds=60)


def test_claim_processing_that_is_due_is_charged_again(accept):
    payment = accept()
    settle_one(claim_one(payment.pk), Unavailable(detail="503"))
    make_due(payment)
    assert claim_one(payment.pk).kind == "charge"


def test_claim_processing_that_is_not_yet_due_is_left_alone(accept):
    payment = accept()
    settle_one(claim_one(payment.pk), Unavailable(detail="503"))
    assert claim_one(payment.pk) is None


def test_claim_under_a_live_lease_is_left_alone(accept):
    payment = accept()
    assert claim_one(payment.pk) is not None
    assert claim_one(payment.pk) is None
    assert payment.attempts.count() == 1


def test_claim_with_an_expired_lease_looks_first_and_never_sends(accept):
    payment = accept()
    first = claim_one(payment.pk)
    make_due(payment, lease_expires_at=HOUR_AGO)
    second = claim_one(payment.pk)
    assert (second.kind, second.fence) == ("lookup", first.fence + 1)
    assert outcomes(payment) == ["charge abandoned", "lookup "]
    payment.refresh_from_db()
    assert payment.status == "unknown"


def test_claim_unknown_that_is_due_is_looked_up(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    assert claim_one(payment.pk) is None
    make_due(payment)
    assert claim_one(payment.pk).kind == "lookup"


def test_claim_of_a_look_up_with_an_expired_lease_looks_again(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="reset"))
    make_due(payment)
    claim_one(payment.pk)
    make_due(payment, lease_expires_at=HOUR_AGO)
    assert claim_one(payment.pk).kind == "lookup"


@pytest.mark.parametrize("answer", [Approved(reference="ch_1"), Declined(decline_code="x", detail="")])
def test_claim_of_a_final_payment_is_left_alone(accept, answer):
    payment = accept()
    answered(payment, answer)
    assert claim_one(payment.pk) is None


def test_claim_of_a_payment_that_does_not_exist_is_left_alone(merchant):
    assert claim_one(merchant.pk) is None


def test_many_workers_at_once_make_one_charge(accept, sandbox):
    payment = accept()

    def work(_):
        try:
            process_payments(payment_ids=[payment.pk])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(50)))
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert len(sandbox.charges(payment)) == 1
    assert payment.attempts.count() == 1


# --- storing an answer


def test_an_answer_survives_the_loss_of_the_connection_it_was_to_be_stored_through(accept, settings):
    payment = accept()
    claim = claim_one(payment.pk)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    with psycopg.connect(os.environ["DATABASE_URL"].rpartition("/")[0] + "/postgres", autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [backend])
    answered = [Answered(claim, Approved(reference="ch_1"))]
    assert settle_surely(answered, ends=end_of(answered)) == []
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert outcomes(payment) == ["charge approved"]


def test_an_answer_that_is_stored_twice_counts_once(accept):
    """The commit went through, and only the news of it was lost: the second try finds it done."""
    payment = accept()
    claim = claim_one(payment.pk)
    for _ in range(2):
        assert settle_one(claim, Unavailable(detail="503")) is None
    payment.refresh_from_db()
    assert (payment.retries, payment.status) == (1, "processing")
    assert work().count() == 2  # the first message and one retry


def test_a_request_that_the_gateway_calls_wrong_fails_at_once(accept, sandbox):
    payment = process(accept(payment_method="pm_no_such_thing"))
    assert (payment.status, payment.error_code, payment.charge_attempts) == ("failed", "request_rejected", 1)
    assert payment.decline_code == "payment_method_unknown"
    assert outcomes(payment) == ["charge rejected"]
    assert not DeadLetter.objects.exists()


# --- leases, fences and answers that come late


def test_a_worker_with_too_little_lease_left_does_not_call(accept, sandbox, settings):
    settings.GATEWAYS = {"sandbox": {**settings.GATEWAYS["sandbox"], "LEASE": 0.5}}
    registry.get.cache_clear()
    claim = claim_one(accept().pk)
    assert call_now(claim) is None
    assert sandbox.charges() == []


def test_a_worker_held_up_while_it_claims_does_not_think_its_lease_longer_than_it_is(accept, sandbox, monkeypatch):
    """Stopped for ten minutes between the database's answer and the call, it must not call."""
    payment = accept()
    real = registry.get(payment.gateway)
    moments = iter([100.0])  # the claim reads the clock once, before it asks the database
    monkeypatch.setattr("payments.operations.claims.clock", SimpleNamespace(elapsed_seconds=lambda: next(moments)))
    claim = claim_one(payment.pk)
    assert claim.lease_ends == 100.0 + real.lease.total_seconds()


def late(accept, state_now):
    """A worker's claim that another worker has taken over since; the payment is as `state_now` left it."""
    payment = accept(order_id="o-1")
    slow = claim_one(payment.pk)
    make_due(payment, lease_expires_at=HOUR_AGO)
    settle_one(claim_one(payment.pk), state_now)
    payment.refresh_from_db()
    return payment, slow


def test_an_approval_that_comes_late_settles_an_unknown_payment(accept):
    payment, slow = late(accept, OutcomeUnknown(detail="timeout"))
    assert settle_one(slow, Approved(reference="ch_1")) is None
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert payment.attempts.get(pk=slow.attempt_id).outcome == "approved"


def test_a_late_refusal_is_recorded_and_changes_nothing(accept):
    payment, slow = late(accept, OutcomeUnknown(detail="timeout"))
    before = (payment.status, payment.fence, payment.next_attempt_at)
    settle_one(slow, Unavailable(detail="503"))
    payment.refresh_from_db()
    assert (payment.status, payment.fence, payment.next_attempt_at) == before
    assert payment.attempts.get(pk=slow.attempt_id).outcome == "unavailable"


def test_a_late_success_after_failure_is_recorded_and_holds_the_order(accept):
    payment, slow = late(accept, Declined(decline_code="card_declined", detail="no"))
    settle_one(slow, Approved(reference="ch_1"))
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review, payment.holds_order) == ("failed", True, True)
    assert (payment.amount_captured, payment.gateway_reference) == (1000, "ch_1")
    assert events(payment)[-1] == "needs_review"


def test_a_late_success_while_another_payment_has_the_order_is_flagged_and_not_dropped(accept):
    payment, slow = late(accept, Declined(decline_code="card_declined", detail="no"))
    accept(key="key-2", order_id="o-1")
    settle_one(slow, Approved(reference="ch_1"))
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review, payment.holds_order) == ("failed", True, False)
    assert payment.gateway_reference == "ch_1"


def test_two_charges_of_one_payment_are_seen(accept):
    payment, slow = late(accept, Approved(reference="ch_1"))
    settle_one(slow, Approved(reference="ch_2"))
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review, payment.error_code) == ("succeeded", True, "charged_twice")


@pytest.mark.parametrize("answer", [Approved(reference="ch_1"), Declined(decline_code="card_declined", detail="no")])
def test_an_answer_is_never_recorded_on_the_attempt_of_another_payment(accept, answer):
    """After a failover that has lost an attempt, its id is given to another payment's, while the call is under way."""
    lost, other = claim_one(accept(order_id="o-1").pk), claim_one(accept(key="key-2", order_id="o-2").pk)
    settle_one(replace(lost, attempt_id=other.attempt_id), answer)
    payment = Payment.objects.get(pk=other.request.payment_id)
    assert payment.attempts.get(pk=other.attempt_id).outcome == ""
    expected = "succeeded" if isinstance(answer, Approved) else "processing"  # an approval is proof by any way
    assert Payment.objects.get(pk=lost.request.payment_id).status == expected
    settle_one(other, Approved(reference="ch_2"))
    payment.refresh_from_db()
    assert (payment.status, payment.gateway_reference) == ("succeeded", "ch_2")


def test_the_same_late_answer_to_a_succeeded_payment_is_nothing_new(accept):
    payment, slow = late(accept, Approved(reference="ch_1"))
    settle_one(slow, Approved(reference="ch_1"))
    payment.refresh_from_db()
    assert not payment.needs_review
