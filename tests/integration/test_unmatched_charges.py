"""Charges without a payment: adopted, refunded, dismissed, or closed by themselves; never twice, never silently."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import ProgrammingError, connections, transaction
from django.db.models.functions import Now

from merchants.models import AuditEntry
from messaging.models import OutboxMessage
from payments import breaker
from payments.errors import AdoptionRefused, UnmatchedChargeAwaited, UnmatchedChargeResolved
from payments.gateways.base import Approved, ConflictingCharge, OutcomeUnknown
from payments.models import Payment, UnmatchedCharge
from payments.operations import process_payments, refund_unmatched_charge
from payments.operations.resolve_unmatched_charge import adopt_charge, begin_refund, dismiss_charge
from payments.unmatched_charge import LEGAL_MOVES, RESOLVED, Reason, State
from payments.unmatched_charge_jobs import close_matched, queue_overdue_refunds
from tests.claiming import claim_one, settle_one
from tests.outbox import work
from tests.unmatched import ADA, charge_at, forget, record

pytestmark = pytest.mark.django_db(transaction=True)


def reload(charge):
    charge.refresh_from_db()
    return charge


def adopt(charge):
    return adopt_charge(charge_id=charge.pk, who=ADA, reason="found in the gateway's books")


def ask_refund(charge):
    with transaction.atomic():
        return begin_refund(charge_id=charge.pk, who=ADA, reason="the order was never delivered")


def refund(charge):
    """Ask for the refund and let a worker carry it out."""
    ask_refund(charge)
    refund_unmatched_charge(charge_id=charge.pk)
    return reload(charge)


def due_now(charge):
    UnmatchedCharge.objects.filter(pk=charge.pk).update(next_attempt_at=Now(), stuck_check_at=Now())


def refunds(sandbox):
    return [effect for effect in sandbox.effects() if effect["operation"] == "refund"]


# --- found by replies


def only_review():
    charges = list(UnmatchedCharge.objects.all())
    assert len(charges) == 1
    return charges[0]


def conflicting(reference="ch_77", amount=1, currency="EUR"):
    conflict = ConflictingCharge(reference=reference, amount=amount, currency=currency, payment_id="other")
    return OutcomeUnknown(detail="another charge", conflict=conflict)


def test_another_charge_under_a_payments_key_is_recorded(accept):
    payment = accept(order_id="o-1")
    settle_one(claim_one(payment.pk), conflicting())
    charge = only_review()
    assert (charge.reference, charge.reason, charge.source) == ("ch_77", "amount_differs", "look_up")
    assert (charge.gateway_key, charge.merchant_slug, charge.amount) == (payment.gateway_key, "shop", 1)


def test_the_charge_of_another_payment_is_never_taken_for_one_without(accept, sandbox):
    paid = accept(key="paid")
    process_payments(payment_ids=[paid.pk])
    paid.refresh_from_db()
    settle_one(claim_one(accept(key="k-2").pk), conflicting(paid.gateway_reference, paid.amount))
    assert not UnmatchedCharge.objects.exists()


def test_a_second_charge_that_a_late_answer_names_is_recorded(accept):
    payment = accept()
    claim = claim_one(payment.pk)
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=Now())
    settle_one(claim_one(payment.pk), Approved(reference="ch_1"))
    settle_one(claim, Approved(reference="ch_2"))
    charge = only_review()
    assert (charge.reference, charge.reason, charge.gateway_payment_id) == ("ch_2", "second_charge", str(payment.pk))
    payment.refresh_from_db()
    assert payment.error_code == "charged_twice"


# --- adopt


def test_an_adopted_charge_becomes_a_succeeded_payment_under_the_id_that_the_client_knows(merchant, sandbox, client):
    entry = charge_at(sandbox)
    payment = adopt(record(entry))
    payment.refresh_from_db()
    assert (str(payment.pk), payment.status, payment.amount_captured) == (entry.payment_id, "succeeded", 1000)
    assert (payment.gateway_reference, payment.order_id, payment.mode) == (entry.reference, "o-1", "test")
    types = list(payment.events.order_by("version").values_list("type", flat=True))
    assert types == ["payment.created", "payment.processing", "payment.succeeded"]
    assert OutboxMessage.objects.filter(queue__in=types).count() == 3
    assert client.get(f"/api/v1/payments/{payment.pk}").json()["status"] == "succeeded"
    charge = UnmatchedCharge.objects.get()
    assert (charge.state, charge.payment, charge.resolved_by) == ("adopted", payment, "ada")
    audit = AuditEntry.objects.get(action="unmatched_charge.adopted")
    assert (audit.actor, audit.after["payment_id"]) == ("user:ada", str(payment.pk))


def test_an_adopted_payment_has_the_gateway_key_of_its_charge(merchant, sandbox):
    payment = adopt(record(charge_at(sandbox, key="pay_0123456789abcdef:charge:2")))
    assert payment.gateway_key == "pay_0123456789abcdef:charge:2"


def test_an_id_that_another_payment_has_is_never_taken_over(accept, sandbox):
    payment = accept(order_id="other")
    charge = record(charge_at(sandbox, payment_id=str(payment.pk), amount=5, order_id=None))
    assert adopt(charge).pk != payment.pk
    assert Payment.objects.get(pk=payment.pk).status == "pending"


@pytest.mark.parametrize("change", [{"merchant": "nobody"}, {"merchant": ""}, {"currency": "XXX"}])
def test_what_cannot_be_a_payment_is_not_adopted(merchant, sandbox, change):
    charge = record(charge_at(sandbox, **change))
    with pytest.raises(AdoptionRefused):
        adopt(charge)
    assert reload(charge).state == "open"
    assert not Payment.objects.exists()


def test_an_order_that_another_payment_holds_is_never_paid_twice(accept, sandbox):
    payment = accept(order_id="o-1", amount=500)
    charge = record(charge_at(sandbox))
    with pytest.raises(AdoptionRefused, match=f"{payment.pk} has the order") as refused:
        adopt(charge)
    assert "refund the charge" in refused.value.detail
    assert Payment.objects.count() == 1


@pytest.mark.parametrize("reason", [Reason.AMOUNT_DIFFERS, Reason.CURRENCY_DIFFERS, Reason.SECOND_CHARGE])
def test_a_charge_that_contradicts_its_payment_is_not_adopted(merchant, sandbox, reason):
    charge = record(charge_at(sandbox), reason=reason)
    with pytest.raises(AdoptionRefused):
        adopt(charge)


def test_a_payment_that_failed_takes_its_charge_as_a_late_success(accept, sandbox):
    payment = accept(payment_method="pm_declined", order_id="o-1")
    process_payments(payment_ids=[payment.pk])
    charge = record(charge_at(sandbox, payment_id=str(payment.pk)), reason=Reason.PAYMENT_NOT_CHARGED)
    assert adopt(charge) == payment
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.amount_captured) == ("failed", "late_success", 1000)
    assert (payment.needs_review, payment.gateway_reference) == (True, charge.reference)
    assert reload(charge).state == "adopted"


@pytest.mark.parametrize("decide", [adopt, ask_refund])
def test_nothing_is_decided_while_a_payment_may_still_take_the_charge(accept, sandbox, decide):
    """The gateway answers a client's retry under the same key with this very charge."""
    payment = accept(order_id="")
    charge = record(charge_at(sandbox, key=payment.gateway_key, order_id=None))
    with pytest.raises(UnmatchedChargeAwaited, match=str(payment.pk)):
        decide(charge)
    process_payments(payment_ids=[payment.pk])
    with pytest.raises(UnmatchedChargeResolved):
        decide(charge)
    assert (close_matched(), reload(charge).state, charge.payment) == (1, "matched", payment)


def test_two_people_adopt_a_charge_once(merchant, sandbox):
    charge = record(charge_at(sandbox))
    together, outcomes = threading.Barrier(2), []

    def one():
        together.wait(10)
        try:
            outcomes.append(adopt(charge).status)
        except UnmatchedChargeResolved:
            outcomes.append("resolved already")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["resolved already", "succeeded"]
    assert Payment.objects.count() == 1


# --- a database that forgot a payment, and the client that retries


@pytest.fixture
def forgotten(accept, sandbox):
    """A payment that was accepted and charged, and that the database has lost."""
    payment = accept(order_id="o-1")
    process_payments(payment_ids=[payment.pk])
    forget(payment)
    assert len(sandbox.charges()) == 1
    return payment


def orphan(sandbox):
    return record(sandbox.server.journal.entries[0])


def test_a_clients_retry_closes_the_review_and_charges_nothing(forgotten, accept, sandbox):
    charge = orphan(sandbox)
    again = accept(order_id="o-1")
    process_payments(payment_ids=[again.pk])
    again.refresh_from_db()
    assert (again.status, again.gateway_reference, len(sandbox.charges())) == ("succeeded", charge.reference, 1)
    assert close_matched() == 1
    assert (reload(charge).state, charge.payment, charge.resolved_by) == ("matched", again, "system")
    assert close_matched() == 0


def test_a_clients_retry_after_an_adoption_finds_the_order_paid(forgotten, post, sandbox):
    adopt(orphan(sandbox))
    answer = post({"amount": "10.00", "order_id": "o-1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "order_already_paid")
    assert len(sandbox.charges()) == 1


@pytest.mark.parametrize(("decide", "code"), [(adopt, "charge_already_adopted"), (refund, "charge_already_refunded")])
def test_a_payment_that_gets_a_resolved_charge_is_flagged_once(accept, sandbox, decide, code):
    """Without an order nothing stops a client's retry after staff have decided."""
    payment = accept(order_id="")
    process_payments(payment_ids=[payment.pk])
    forget(payment)
    decide(orphan(sandbox))
    again = accept(order_id="")
    process_payments(payment_ids=[again.pk])
    assert (close_matched(), close_matched()) == (1, 0)
    again.refresh_from_db()
    assert (again.status, again.needs_review, again.error_code) == ("succeeded", True, code)
    assert len(sandbox.charges()) == 1


def test_a_charge_of_another_amount_matches_no_payment(accept, sandbox):
    payment = accept()
    process_payments(payment_ids=[payment.pk])
    entry = sandbox.server.journal.entries[0]
    charge = record(replace(entry, amount=entry.amount + 1), reason=Reason.AMOUNT_DIFFERS)
    assert (close_matched(), reload(charge).state) == (0, "open")


# --- refund


def test_a_refund_is_committed_before_its_call_and_ends_refunded(merchant, sandbox):
    charge = record(charge_at(sandbox))
    ask_refund(charge)
    assert (reload(charge).state, refunds(sandbox)) == ("refunding", [])
    assert work().get(actor="refund_unmatched_charges").payload == {"ids": [charge.pk]}
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, charge.resolved_by) == ("refunded", "ada")
    assert charge.refund_reference == "re_00000002"
    assert [(one["amount"], one["payment_id"]) for one in refunds(sandbox)] == [(1000, charge.gateway_payment_id)]
    audit = AuditEntry.objects.get(action="unmatched_charge.refund_requested")
    assert audit.after == {"state": "refunding", "sums": {"EUR": "10.00"}}


def test_a_refund_is_carried_out_once_however_often_its_message_comes(merchant, sandbox):
    charge = record(charge_at(sandbox))
    refund(charge)
    refund_unmatched_charge(charge_id=charge.pk)
    assert len(refunds(sandbox)) == 1
    for decide in (adopt, ask_refund):
        with pytest.raises(UnmatchedChargeResolved):
            decide(charge)


@pytest.mark.parametrize("fault", ["pm_error_500", "pm_garbage", "pm_reset"])
def test_a_refund_without_an_answer_is_looked_up_and_never_sent_twice(merchant, sandbox, fault):
    """The gateway forgets keys: a second request would be refused, and the first look-up must decide."""
    sandbox.server.settings.change({"refund_fault": fault, "forget_keys": True})
    charge = refund(record(charge_at(sandbox)))
    assert (charge.state, bool(charge.error_detail), len(refunds(sandbox))) == ("refunding", True, 1)
    refund_unmatched_charge(charge_id=charge.pk)  # not due yet
    assert reload(charge).refund_attempts == 1
    due_now(charge)
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, charge.refund_attempts, len(refunds(sandbox))) == ("refunded", 2, 1)


@pytest.mark.parametrize("fault", ["pm_reset_before", "pm_rate_limited"])
def test_a_refund_that_did_not_arrive_is_sent_again_under_the_same_key(merchant, sandbox, fault):
    sandbox.server.settings.change({"refund_fault": fault})
    charge = refund(record(charge_at(sandbox)))
    key = charge.refund_key
    assert (charge.state, refunds(sandbox)) == ("refunding", [])
    due_now(charge)
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, [one["idempotency_key"] for one in refunds(sandbox)]) == ("refunded", [key])


def test_a_refund_that_the_gateway_refuses_is_open_again_with_its_error_and_a_new_key(merchant, sandbox):
    sandbox.server.settings.change({"refund_fault": "pm_declined"})
    charge = record(charge_at(sandbox))
    first_key = charge.refund_key
    refund(charge)
    assert (charge.state, charge.resolved_by, charge.resolved_at) == ("open", "", None)
    assert "refund_declined" in charge.error_detail
    assert charge.refund_key != first_key
    sandbox.server.settings.change({"refund_fault": ""})
    assert (refund(charge).state, charge.error_detail) == ("refunded", "")


def test_a_refusal_after_a_request_without_an_answer_proves_nothing_by_itself(merchant, sandbox):
    """The first request is taken after the look-up; then the gateway refuses the second one as too much."""
    charge = record(charge_at(sandbox))
    ask_refund(charge)
    UnmatchedCharge.objects.update(refund_attempts=1, refund_sent_at=Now())
    journal, key = sandbox.server.journal, charge.refund_key
    find = journal.find

    def take_late(asked, *, operation):
        found = find(asked, operation=operation)
        if found is None:
            journal.refund(key=asked, charge=charge.reference, amount=1000, currency="EUR")
        return found

    journal.find = take_late
    sandbox.server.settings.change({"forget_keys": True})
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, charge.refund_key) == ("refunded", key)
    assert len(refunds(sandbox)) == 1


def test_a_refund_past_the_key_window_is_never_sent_again(merchant, sandbox):
    charge = record(charge_at(sandbox))
    ask_refund(charge)
    UnmatchedCharge.objects.update(refund_attempts=3, refund_sent_at=Now() - timedelta(days=2))
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, refunds(sandbox)) == ("open", [])
    assert "not_made" in charge.error_detail


def test_the_key_of_a_refund_survives_a_database_that_forgot_the_review(merchant, sandbox):
    """The row's id may be another one, or be another charge's, after a failover."""
    entry = charge_at(sandbox)
    charge = record(entry)
    key = charge.refund_key
    others = [record(charge_at(sandbox)) for _ in range(2)]
    assert UnmatchedCharge(id=4711, gateway=charge.gateway, reference=charge.reference).refund_key == key
    assert len({key, *(other.refund_key for other in others)}) == 3


def test_a_late_answer_never_settles_the_attempt_of_another_worker(merchant, sandbox, monkeypatch):
    charge = record(charge_at(sandbox))
    ask_refund(charge)
    journal = sandbox.server.journal
    make = journal.refund

    def meanwhile(**request):
        UnmatchedCharge.objects.filter(pk=charge.pk).update(refund_attempts=5)
        connections.close_all()
        return make(**request)

    monkeypatch.setattr(journal, "refund", meanwhile)
    refund_unmatched_charge(charge_id=charge.pk)
    assert (reload(charge).state, charge.refund_attempts) == ("refunding", 5)


def test_a_paused_gateway_refunds_nothing(merchant, sandbox):
    charge = record(charge_at(sandbox))
    breaker.pause("sandbox", reason="maintenance", who=ADA)
    refund(charge)
    assert (charge.state, charge.refund_attempts, refunds(sandbox)) == ("refunding", 0, [])
    breaker.resume("sandbox", who=ADA)
    due_now(charge)
    refund_unmatched_charge(charge_id=charge.pk)
    assert reload(charge).state == "refunded"


def test_a_refund_whose_message_or_worker_was_lost_is_queued_again(merchant, sandbox):
    charge = record(charge_at(sandbox))
    ask_refund(charge)
    OutboxMessage.objects.all().delete()
    assert queue_overdue_refunds() == 0
    due_now(charge)
    assert queue_overdue_refunds() == 1
    assert work().get().payload == {"ids": [charge.pk]}
    assert queue_overdue_refunds() == 0


def test_a_gateway_that_cannot_be_reached_leaves_the_refund_due(merchant, sandbox):
    charge = record(charge_at(sandbox))
    sandbox.stop()
    refund(charge)
    assert (charge.state, charge.refund_attempts) == ("refunding", 1)
    assert charge.next_attempt_at > charge.created_at


# --- dismiss, and what the database holds


def test_a_dismissed_charge_moves_no_money(merchant, sandbox):
    charge = record(charge_at(sandbox))
    dismiss_charge(charge_id=charge.pk, who=ADA, reason="refunded at the gateway's own console")
    assert (reload(charge).state, charge.resolution_reason) == ("dismissed", "refunded at the gateway's own console")
    assert refunds(sandbox) == []
    assert AuditEntry.objects.filter(action="unmatched_charge.dismissed").count() == 1


@pytest.mark.parametrize("to", list(State))
@pytest.mark.parametrize("source", list(State))
def test_the_database_refuses_every_other_move(accept, sandbox, source, to):
    charge = record(charge_at(sandbox))
    payment = accept(order_id="")

    def values(state):
        refunding = state == State.REFUNDING
        return {
            "state": state, "payment": payment, "resolved_by": "ada", "resolution_reason": "r",
            "refund_reference": "re_1",
            "resolved_at": Now() if state in RESOLVED else None,
            "next_attempt_at": Now() if refunding else None, "stuck_check_at": Now() if refunding else None,
        }  # fmt: skip

    rows = UnmatchedCharge.objects.filter(pk=charge.pk)
    path = {State.OPEN: [], State.REFUNDED: [State.REFUNDING, State.REFUNDED]}.get(source, [source])
    for state in path:
        rows.update(**values(state))
    if to == source or to in LEGAL_MOVES[source]:
        assert rows.update(**values(to)) == 1
    else:
        with pytest.raises(ProgrammingError, match="Invalid transition"):
            rows.update(**values(to))


@pytest.mark.parametrize("change", [{"amount": 1}, {"reference": "x"}, {"currency": "USD"}, {"gateway": "other"}])
def test_what_the_gateway_stated_cannot_be_changed(merchant, sandbox, change):
    record(charge_at(sandbox))
    with pytest.raises(ProgrammingError, match="Cannot update"):
        UnmatchedCharge.objects.update(**change)


def test_a_review_cannot_be_deleted(merchant, sandbox):
    record(charge_at(sandbox))
    with pytest.raises(ProgrammingError, match="Cannot delete"):
        UnmatchedCharge.objects.all().delete()
