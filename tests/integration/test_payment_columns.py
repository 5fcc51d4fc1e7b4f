"""Every column that a step changes, exactly: what support staff see, and what the next step goes by."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from messaging.models import DeadLetter, OutboxMessage
from payments.gateways.base import Approved, ChargeRequest, Declined, OutcomeUnknown, RequestRejected, Unavailable
from payments.models import GatewayCircuit, Payment
from payments.operations import schedule
from payments.operations.claims import claim_payments
from payments.operations.schedule import LOOKUP_DELAYS
from tests.claiming import claim_one, settle_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
HOUR_AGO = Now() - timedelta(hours=1)
OLD_ERROR = {"error_code": "gateway_unavailable", "error_detail": "HTTP 503"}
UNSCHEDULED = {"lease_expires_at": None, "next_attempt_at": None, "revive_at": None, "held_since": None}


def columns(payment, *names):
    payment.refresh_from_db()
    return {name: getattr(payment, name) for name in names}


def of(payment, expected):
    return columns(payment, *expected)


def change(payment, **values):
    Payment.objects.filter(pk=payment.pk).update(**values)


def now_of(payment):
    """When the last answer was recorded: the time of its transaction."""
    return payment.attempts.order_by("id").last().finished_at


def attempt_of(payment):
    last = payment.attempts.order_by("id").last()
    return last.kind, last.outcome, last.code, last.detail, last.gateway_reference


@pytest.fixture
def payment(accept):
    return accept(order_id="o-1", payment_method="pm_ok", description="a description")


def test_a_claim_asks_for_exactly_what_was_accepted(payment):
    claim = claim_one(payment.pk)
    payment.refresh_from_db()
    assert claim.request == ChargeRequest(
        key=payment.gateway_key,
        payment_id=payment.pk,
        merchant="shop",
        order_id="o-1",
        amount=1000,
        currency="EUR",
        payment_method="pm_ok",
        request_id="request-key-1",
    )
    assert claim.gateway.name == "sandbox"
    assert not claim.probe
    attempt = payment.attempts.get()
    assert (attempt.pk, attempt.fence, attempt.gateway_key) == (claim.attempt_id, 1, payment.gateway_key)
    assert attempt_of(payment) == ("charge", "", "", "", "")


def test_a_claim_sets_the_lease_and_ends_what_was_scheduled(payment):
    change(payment, status="processing", next_attempt_at=HOUR_AGO, revive_at=HOUR_AGO, held_since=HOUR_AGO, revivals=5)
    change(payment, charge_attempts=2, look_up_first=False, fence=7)
    claim = claim_one(payment.pk)
    payment.refresh_from_db()
    lease_ends = payment.attempts.get().started_at + claim.gateway.lease
    expected = {
        "fence": 8,
        "lease_expires_at": lease_ends,
        "revive_at": lease_ends,
        "revivals": 0,
        "next_attempt_at": None,
        "held_since": None,
        "charge_attempts": 3,
        "look_up_first": False,
        "status": "processing",
    }
    assert of(payment, expected) == expected


def test_a_look_up_counts_as_no_charge(payment):
    change(payment, look_up_first=True)
    assert claim_one(payment.pk).kind == "lookup"
    assert columns(payment, "charge_attempts", "look_up_first") == {"charge_attempts": 0, "look_up_first": True}


def test_a_claim_with_an_expired_lease_makes_the_outcome_unknown_and_abandons_the_open_attempt(payment):
    claim_one(payment.pk)
    change(payment, lease_expires_at=HOUR_AGO, **OLD_ERROR)
    claim_one(payment.pk)
    expected = {"status": "unknown", "error_code": "outcome_unknown", "error_detail": ""}
    assert of(payment, expected) == expected
    first, second = payment.attempts.order_by("id")
    assert (first.outcome, first.finished_at, second.outcome) == ("abandoned", second.started_at, "")


def test_claims_of_a_list_have_each_its_own_attempt(accept):
    payments = [accept(f"key-{number}") for number in range(3)]
    change(payments[1], status="processing", next_attempt_at=HOUR_AGO, revive_at=HOUR_AGO)
    claims = claim_payments([payment.pk for payment in payments])
    found = {claim.request.payment_id: claim.attempt_id for claim in claims}
    assert found == {payment.pk: payment.attempts.get().pk for payment in payments}
    assert [claim.kind for claim in claims] == ["charge"] * 3


def test_an_approval_ends_a_payment_and_clears_its_errors(payment):
    claim = claim_one(payment.pk)
    change(payment, decline_code="old", **OLD_ERROR)
    settle_one(claim, Approved(reference="ch_1"))
    expected = {
        "status": "succeeded",
        "amount_captured": 1000,
        "gateway_reference": "ch_1",
        "error_code": "",
        "decline_code": "",
        "error_detail": "",
        "finished_at": now_of(payment),
        "holds_order": True,
        **UNSCHEDULED,
    }
    assert of(payment, expected) == expected
    assert attempt_of(payment) == ("charge", "approved", "", "", "ch_1")


def test_a_decline_ends_a_payment_with_its_reason_and_frees_the_order(payment):
    settle_one(claim_one(payment.pk), Declined(decline_code="card_expired", detail="Expired.", reference="ch_1"))
    expected = {
        "status": "failed",
        "amount_captured": 0,
        "gateway_reference": "ch_1",
        "error_code": "declined",
        "decline_code": "card_expired",
        "error_detail": "Expired.",
        "finished_at": now_of(payment),
        "holds_order": False,
        **UNSCHEDULED,
    }
    assert of(payment, expected) == expected
    assert attempt_of(payment) == ("charge", "declined", "card_expired", "Expired.", "ch_1")


def test_a_request_that_is_rejected_is_no_decline(payment):
    settle_one(claim_one(payment.pk), RequestRejected(code="amount_invalid", detail="Too small."))
    expected = {
        "status": "failed",
        "error_code": "request_rejected",
        "decline_code": "amount_invalid",
        "error_detail": "Too small.",
        "holds_order": False,
        **UNSCHEDULED,
    }
    assert of(payment, expected) == expected
    assert attempt_of(payment) == ("charge", "rejected", "amount_invalid", "Too small.", "")


def staged_for(payment):
    (message,) = work()
    assert (message.payload, message.request_id) == ({"ids": [str(payment.pk)]}, payment.request_id)
    return message.available_at


def test_a_payment_whose_gateway_is_unavailable_waits_for_its_retry(payment, settings):
    claim = claim_one(payment.pk)
    OutboxMessage.objects.all().delete()
    settle_one(claim, Unavailable(detail="HTTP 503"))
    expected = {"status": "processing", "retries": 1, "lease_expires_at": None, "held_since": None, **OLD_ERROR}
    assert of(payment, expected) == expected
    delay = claim.gateway.retry_delays[0]
    assert delay <= (payment.next_attempt_at - now_of(payment)).total_seconds() <= 2 * delay
    assert payment.revive_at - payment.next_attempt_at == timedelta(seconds=settings.REVIVE_AFTER)
    assert staged_for(payment) == payment.next_attempt_at
    assert attempt_of(payment) == ("charge", "unavailable", "", "HTTP 503", "")


def test_a_gateway_that_asks_for_more_time_gets_it(payment):
    settle_one(claim_one(payment.pk), Unavailable(detail="HTTP 429", retry_after=50.0))
    payment.refresh_from_db()
    assert payment.next_attempt_at - now_of(payment) == 50 * SECOND


def test_look_ups_grow_apart_until_staff_are_asked():
    seconds = [int(delay.total_seconds()) for delay in LOOKUP_DELAYS]
    assert seconds == [2, 30, 120, 600, 3600, 21600, 86400, 86400, 86400, 86400, 86400]


@pytest.mark.parametrize(
    ("lookups", "seconds", "staged"), [(0, 2, True), (1, 30, True), (2, 120, False), (10, 86_400, False)]
)
def test_an_unknown_outcome_is_looked_up_on_schedule(payment, settings, lookups, seconds, staged):
    claim = claim_one(payment.pk)
    change(payment, lookups=lookups)
    OutboxMessage.objects.all().delete()
    settle_one(claim, OutcomeUnknown(detail="reset"))
    expected = {
        "status": "unknown",
        "lookups": lookups + 1,
        "error_code": "outcome_unknown",
        "error_detail": "reset",
        "look_up_first": False,
        "lease_expires_at": None,
        "next_attempt_at": now_of(payment) + seconds * SECOND,
        "needs_review": False,
    }
    assert of(payment, expected) == expected
    backstop = timedelta(seconds=settings.REVIVE_AFTER) if staged else timedelta(0)
    assert payment.revive_at == payment.next_attempt_at + backstop
    assert work().exists() is staged
    if staged:
        assert staged_for(payment) == payment.next_attempt_at


@pytest.mark.parametrize(
    ("ahead", "staged"), [(timedelta(minutes=1), True), (timedelta(minutes=1, microseconds=1), False)]
)
def test_what_is_due_within_a_minute_is_staged(payment, monkeypatch, ahead, staged):
    monkeypatch.setattr(schedule, "LOOKUP_DELAYS", (ahead,))
    claim = claim_one(payment.pk)
    OutboxMessage.objects.all().delete()
    settle_one(claim, OutcomeUnknown(detail="reset"))
    assert work().exists() is staged


def test_after_the_last_look_up_staff_are_asked_and_nothing_is_scheduled(payment):
    claim = claim_one(payment.pk)
    change(payment, lookups=len(LOOKUP_DELAYS))
    settle_one(claim, OutcomeUnknown(detail="reset"))
    expected = {
        "status": "unknown",
        "needs_review": True,
        "lookups": len(LOOKUP_DELAYS),
        "error_code": "outcome_unknown",
        "error_detail": "reset",
        "holds_order": True,
        "finished_at": None,
        **UNSCHEDULED,
    }
    assert of(payment, expected) == expected


def test_a_payment_without_retries_left_fails_with_a_whole_dead_letter(payment):
    claim = claim_one(payment.pk)
    change(payment, retries=len(claim.gateway.retry_delays), charge_attempts=4, decline_code="old")
    settle_one(claim, Unavailable(detail="HTTP 503"))
    expected = {
        "status": "failed",
        "error_code": "retries_exhausted",
        "decline_code": "",
        "error_detail": "HTTP 503",
        "holds_order": False,
        **UNSCHEDULED,
    }
    assert of(payment, expected) == expected
    dead_letter = DeadLetter.objects.get()
    assert (dead_letter.queue, dead_letter.actor) == ("payments", work_actor())
    assert dead_letter.payload == {"ids": [str(payment.pk)]}
    assert (dead_letter.cause, dead_letter.detail, dead_letter.attempts) == ("retries_exhausted", "HTTP 503", 4)
    assert (dead_letter.subject, dead_letter.request_id) == (f"payment:{payment.pk}", payment.request_id)
    assert dead_letter.first_failed_at == payment.attempts.get().finished_at


def test_a_dead_letter_says_when_the_payment_failed_first(payment):
    settle_one(claim_one(payment.pk), Unavailable(detail="HTTP 503"))
    first_failed_at = now_of(payment)
    change(payment, next_attempt_at=HOUR_AGO, retries=10)
    settle_one(claim_one(payment.pk), Unavailable(detail="HTTP 503"))
    assert DeadLetter.objects.get().first_failed_at == first_failed_at < now_of(payment)


def work_actor():
    return OutboxMessage.objects.filter(exchange="", subscriber="").values_list("actor", flat=True).first()


def test_a_payment_that_is_too_old_fails_without_a_call(payment):
    change(payment, charge_before=HOUR_AGO)
    assert claim_one(payment.pk) is None
    expected = {"status": "failed", "error_code": "expired", "error_detail": "it was not charged in time"}
    assert of(payment, expected) == expected
    dead_letter = DeadLetter.objects.get()
    assert (dead_letter.cause, dead_letter.attempts, dead_letter.first_failed_at) == ("expired", 0, payment.finished_at)


@pytest.mark.parametrize("status", ["pending", "processing", "unknown"])
def test_a_held_payment_waits_with_its_reason(payment, status):
    GatewayCircuit.objects.create(gateway="sandbox", paused_at=Now(), pause_reason="maintenance", paused_by="alice")
    if status != "pending":
        change(payment, status="processing", next_attempt_at=HOUR_AGO, revive_at=HOUR_AGO, **OLD_ERROR)
        change(payment, status=status)
    assert claim_one(payment.pk) is None
    error = OLD_ERROR if status == "unknown" else {"error_code": "gateway_paused", "error_detail": ""}
    expected = {"status": "unknown" if status == "unknown" else "processing", "lease_expires_at": None, **error}
    assert of(payment, expected) == expected
    assert payment.held_since is not None
    assert payment.next_attempt_at == payment.revive_at
    waits = (payment.revive_at - payment.held_since).total_seconds()
    assert schedule.HELD_BACKSTOP <= waits <= 2 * schedule.HELD_BACKSTOP
    assert payment.attempts.count() == 0


def test_a_failed_probe_burns_no_retry_and_waits_as_long_as_the_breaker_stays_open(payment):
    GatewayCircuit.objects.create(gateway="sandbox", open_until=HOUR_AGO, openings=1, pause_reason="", paused_by="")
    claim = claim_one(payment.pk)
    assert claim.probe
    settle_one(claim, Unavailable(detail="HTTP 503"))
    expected = {"status": "processing", "retries": 0, "error_code": "gateway_unavailable", "error_detail": ""}
    assert of(payment, expected) == expected
    assert payment.next_attempt_at - payment.held_since == timedelta(seconds=claim.gateway.breaker.open_for)


def test_a_charge_as_the_probe_whose_outcome_is_unknown_is_looked_up(payment):
    GatewayCircuit.objects.create(gateway="sandbox", open_until=HOUR_AGO, openings=1, pause_reason="", paused_by="")
    settle_one(claim_one(payment.pk), OutcomeUnknown(detail="reset"))
    expected = {"status": "unknown", "held_since": None, "lookups": 1}
    assert of(payment, expected) == expected
