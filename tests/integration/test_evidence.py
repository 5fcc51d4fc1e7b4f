"""A payment fails only when every charge request under its key provably took nothing: all histories and replies."""

from datetime import timedelta
from itertools import product

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models.functions import Now

from payments.gateways import registry
from payments.gateways.base import (
    Approved,
    ConflictingCharge,
    Declined,
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unavailable,
)
from payments.idempotency import gateway_key_base
from payments.models import Payment, UnmatchedCharge
from payments.operations import process_payments
from payments.operations.claims import claim_payments
from payments.operations.settle import Answered, settle
from payments.states import AttemptKind, Outcome
from tests.claiming import claim_one, settle_one

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)
#: Past the day within which a gateway recognises a key.
DAYS_AGO = Now() - timedelta(days=2)

REPLIES = {
    "approved": Approved(reference="ch_1"),
    "declined": Declined(decline_code="card_declined", detail="no"),
    "rejected": RequestRejected(code="payment_method_unknown", detail="no such token"),
    "unavailable": Unavailable(detail="503"),
    "unknown": OutcomeUnknown(detail="reset"),
}
NOT_TAKEN = {Outcome.DECLINED, Outcome.REJECTED, Outcome.UNAVAILABLE}
#: What earlier charge requests under the key came to, in their order.
HISTORIES = [
    [],
    ["unavailable"],
    ["unknown"],
    ["abandoned"],
    ["unavailable", "unknown"],
    ["unknown", "unavailable"],
    ["unknown", "rejected"],
    ["abandoned", "declined"],
    ["unavailable", "unavailable", "abandoned"],
]


def with_history(payment, outcomes, kind):
    """Give a payment charge requests with these outcomes, and return the claim for its next call."""
    for number, outcome in enumerate(outcomes, 1):
        payment.attempts.create(
            kind=AttemptKind.CHARGE,
            gateway_key=payment.gateway_key,
            fence=number,
            outcome=outcome,
            started_at=HOUR_AGO,
            finished_at=HOUR_AGO,
        )
    unresolved = not {Outcome(outcome) for outcome in outcomes} <= NOT_TAKEN
    Payment.objects.filter(pk=payment.pk).update(status="processing", fence=len(outcomes))
    status = "unknown" if unresolved or kind == AttemptKind.LOOKUP else "processing"
    Payment.objects.filter(pk=payment.pk).update(status=status, charge_attempts=len(outcomes), next_attempt_at=HOUR_AGO)
    claim = claim_one(payment.pk)
    if claim.kind != kind:  # a charge that follows a look-up which found nothing
        claim = settle_one(claim, NotFound())
    assert claim.kind == kind
    return claim


#: Without what cannot be: nothing is looked up before a request was sent, and a refused one is not sent again.
CASES = [
    *product([AttemptKind.LOOKUP], HISTORIES[1:], [*REPLIES, "not_found"]),
    *product([AttemptKind.CHARGE], [each for each in HISTORIES if not {"rejected", "declined"} & {*each}], REPLIES),
]


@pytest.mark.parametrize(("kind", "history", "reply"), CASES)
def test_a_payment_fails_by_proof_for_every_request_under_its_key(accept, kind, history, reply):
    payment = accept(order_id="o-1")
    claim = with_history(payment, history, kind)
    settle_one(claim, REPLIES.get(reply, NotFound()))
    payment.refresh_from_db()
    requests = payment.attempts.filter(kind="charge", gateway_key=claim.request.key).exclude(outcome="")
    proved = {request.outcome for request in requests} <= NOT_TAKEN
    assert (payment.status == "succeeded") == (reply == "approved")
    if payment.status == "failed":
        assert proved or (kind == AttemptKind.LOOKUP and reply == "declined")
    if not proved and payment.status != "succeeded":
        assert payment.holds_order or reply == "declined"


def answered(payment, answer):
    following = settle_one(claim_one(payment.pk), answer)
    payment.refresh_from_db()
    return following


def make_due(payment):
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=HOUR_AGO)


def sent_and_never_answered(accept):
    """A payment whose first request got no answer, which a look-up after the grace period does not find."""
    payment = accept(order_id="o-1")
    answered(payment, OutcomeUnknown(detail="no answer"))
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    make_due(payment)
    return payment, answered(payment, NotFound())


def test_a_rejected_repetition_does_not_free_the_order_of_a_charge_that_may_have_been_taken(accept):
    payment, again = sent_and_never_answered(accept)
    assert settle_one(again, REPLIES["rejected"]) is None
    payment.refresh_from_db()
    assert (payment.status, payment.holds_order) == ("unknown", True)
    assert payment.next_attempt_at is not None


def test_a_rejected_request_is_not_sent_a_third_time(accept):
    payment, again = sent_and_never_answered(accept)
    settle_one(again, REPLIES["rejected"])
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    make_due(payment)
    assert answered(payment, NotFound()) is None
    assert (payment.status, payment.charge_attempts) == ("unknown", 2)


def test_a_declined_repetition_is_looked_up_before_the_payment_fails(accept):
    payment, again = sent_and_never_answered(accept)
    look_up = settle_one(again, REPLIES["declined"])
    assert look_up is not None
    assert look_up.kind == AttemptKind.LOOKUP
    payment.refresh_from_db()
    assert (payment.status, payment.holds_order) == ("unknown", True)
    settle_one(look_up, Approved(reference="ch_1"))
    payment.refresh_from_db()
    assert payment.status == "succeeded"


def test_a_declined_repetition_that_the_gateway_confirms_fails_the_payment(accept):
    payment, again = sent_and_never_answered(accept)
    look_up = settle_one(again, REPLIES["declined"])
    settle_one(look_up, REPLIES["declined"])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.holds_order) == ("failed", "declined", False)


def test_a_request_that_proved_unavailable_late_lets_the_payment_fail(accept):
    payment = accept()
    first = claim_one(payment.pk)
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=HOUR_AGO)
    answered(payment, NotFound())
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    make_due(payment)
    settle_one(answered(payment, NotFound()), REPLIES["rejected"])
    settle_one(first, REPLIES["unavailable"])
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    make_due(payment)
    third = answered(payment, NotFound())
    settle_one(third, REPLIES["rejected"])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code) == ("failed", "request_rejected")


def test_another_charge_under_the_key_is_flagged_once_and_never_paid_under_a_new_key(accept):
    conflict = ConflictingCharge(reference="ch_7", amount=999, currency="EUR")
    payment = accept()
    for _ in range(2):
        assert answered(payment, OutcomeUnknown(detail="another charge", conflict=conflict)) is None
        make_due(payment)
    assert (payment.status, payment.needs_review, payment.key_number) == ("unknown", True, 1)
    assert payment.events.filter(type="payment.needs_review").count() == 1


# --- the gateway's key


def test_a_request_that_is_accepted_again_after_a_lost_commit_is_charged_once(accept, sandbox):
    """A failover has forgotten the payment, and its client repeats the request."""
    lost = accept(order_id="o-1")
    process_payments(payment_ids=[lost.pk])
    forget_everything()
    payment = accept(order_id="o-1")
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert payment.pk != lost.pk
    assert [charge["payment_id"] for charge in sandbox.charges()] == [str(lost.pk)]
    assert payment.status == "succeeded"
    assert payment.gateway_reference == "ch_00000001"


def test_a_key_that_is_reused_for_another_amount_after_a_lost_commit_is_reviewed_and_never_charged(accept, sandbox):
    lost = accept(order_id="o-1", amount=1000)
    process_payments(payment_ids=[lost.pk])
    forget_everything()
    payment = accept(order_id="o-1", amount=2000)
    for _ in range(3):
        process_payments(payment_ids=[payment.pk])
        make_due(payment)
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review, payment.key_number) == ("unknown", True, 1)
    assert len(sandbox.charges()) == 1


@pytest.mark.parametrize("other", ["key", "mode", "merchant"])
def test_other_requests_have_other_gateway_keys(accept, merchant, other_merchant, other):
    request = {"merchant_id": merchant.pk, "mode": "test", "key": "key-1"}
    changed = {**request, **{"key": {"key": "key-2"}, "mode": {"mode": "live"}}.get(other, {})}
    if other == "merchant":
        changed["merchant_id"] = other_merchant.pk
    assert gateway_key_base(**request) == gateway_key_base(**request) == accept().gateway_key_base
    assert gateway_key_base(**changed) != gateway_key_base(**request)


def test_a_payment_without_a_base_keeps_the_key_that_the_gateway_knows(accept):
    payment = accept()
    payment.gateway_key_base = ""
    assert payment.gateway_key == f"{payment.pk}:charge:1"


def test_an_approval_of_a_payment_that_was_lost_during_the_call_is_recorded(accept, sandbox):
    lost = accept(order_id="o-1")
    claim = claim_one(lost.pk)
    forget_everything()
    assert settle_one(claim, Approved(reference="ch_1")) is None
    recorded = UnmatchedCharge.objects.values_list("reference", "gateway_key", "amount", "gateway_payment_id")
    assert list(recorded) == [("ch_1", claim.request.key, 1000, str(lost.pk))]


@pytest.mark.parametrize("reply", ["declined", "rejected", "unavailable", "unknown"])
def test_any_other_reply_about_a_lost_payment_ends_without_a_trace(accept, reply):
    claim = claim_one(accept().pk)
    forget_everything()
    assert settle_one(claim, REPLIES[reply]) is None
    assert not UnmatchedCharge.objects.exists()


@pytest.mark.parametrize("companions", [0, 1])
def test_an_approval_settles_a_payment_whose_claim_was_lost_during_the_call(accept, companions):
    """A failover has kept the payment and lost its attempt: the approval is proof all the same."""
    payment = accept(order_id="o-1")
    others = [accept(key=f"other-{number}") for number in range(companions)]
    claims = claim_payments([payment.pk, *(other.pk for other in others)])
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE payments_attempt")
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=None, next_attempt_at=HOUR_AGO)
    settle([Answered(claim, Approved(reference=f"ch_{claim.request.payment_id}")) for claim in claims])
    payment.refresh_from_db()
    assert (payment.status, payment.gateway_reference) == ("succeeded", f"ch_{payment.pk}")


@pytest.mark.parametrize(("days", "is_accepted"), [(30, True), (31, False)])
def test_no_gateway_recognises_keys_for_longer_than_they_are_kept(settings, days, is_accepted):
    """A key that is used again after its record was pruned would get the old charge in place of a new one."""
    entry = settings.GATEWAYS["sandbox"]
    options = {**entry["OPTIONS"], "key_window": timedelta(days=days)}
    settings.GATEWAYS = {"sandbox": {**entry, "OPTIONS": options}}
    registry.get.cache_clear()
    try:
        if is_accepted:
            assert registry.get("sandbox").adapter.key_window == timedelta(days=days)
        else:
            with pytest.raises(ImproperlyConfigured, match="KEPT_FOR"):
                registry.get("sandbox")
    finally:
        registry.get.cache_clear()


def forget_everything():
    """Rows of payments cannot be deleted, by a trigger; whole tables can."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE payments_payment, payments_gatewaycircuit, messaging_outboxmessage CASCADE")
