"""`manage.py reconcile`: the gateway's list of charges and our payments, compared both ways."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from messaging.models import OutboxMessage
from payments.gateways import sandbox_refunds
from payments.gateways.base import Approved, ListFailed, OutcomeUnknown, Unavailable
from payments.models import Payment, UnmatchedCharge
from payments.operations import look_up_now, process_payments
from payments.operations import reconcile as reconciliation
from payments.operations.reconcile import reconcile
from payments.unmatched_charge import State
from tests.claiming import claim_one, settle_one
from tests.outbox import work
from tests.unmatched import charge_at, forget, record

pytestmark = pytest.mark.django_db(transaction=True)


def compare(**options):
    """The last hour up to this moment."""
    now = timezone.now()
    period = {"since": now - timedelta(hours=1), "until": now + timedelta(seconds=1), **options}
    return reconcile(gateway="sandbox", retry_delays=(), **period)


def kinds(result):
    return sorted((one.kind.value, one.reference) for one in result.tally.differences)


def pay(accept, count=1, **fields):
    payments = [accept(key=f"k-{number}", **fields) for number in range(count)]
    process_payments(payment_ids=[payment.pk for payment in payments])
    return [Payment.objects.get(pk=payment.pk) for payment in payments]


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(sandbox_refunds, "PAGE_SIZE", 2)
    monkeypatch.setattr(reconciliation, "PAYMENTS_PER_QUERY", 2)


# --- both agree


def test_books_that_agree_have_no_difference_over_many_pages(accept, sandbox, small_pages):
    pay(accept, 5)
    declined = accept(key="no", payment_method="pm_declined")
    process_payments(payment_ids=[declined.pk])
    result = compare()
    assert (result.is_equal, result.payments) == (True, 5)
    assert (result.tally.charges, result.tally.matched, result.tally.declined) == (6, 5, 1)
    assert not UnmatchedCharge.objects.exists()


def test_a_charge_under_way_is_no_difference(accept, sandbox):
    payment = accept()
    charge_at(sandbox, payment_id=str(payment.pk), order_id=None)
    result = compare()
    assert (result.is_equal, result.tally.in_flight) == (True, 1)
    assert not OutboxMessage.objects.filter(actor="look_up_payments").exists()


def test_the_look_up_of_an_unknown_payment_whose_charge_is_listed_is_brought_forward(accept, sandbox):
    (payment,) = pay(accept, payment_method="pm_error_500")
    assert payment.status == "unknown"
    assert compare().is_equal
    message = work().get(actor="look_up_payments")
    assert message.payload == {"ids": [str(payment.pk)]}
    look_up_now(payment_id=payment.pk)
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert payment.status == "succeeded"


def test_the_unknown_retry_of_a_forgotten_payment_is_found_by_its_key(accept, sandbox):
    (payment,) = pay(accept)
    forget(payment)
    again = accept(key="k-0")
    settle_one(claim_one(again.pk), OutcomeUnknown(detail="no answer"))
    result = compare()
    assert (result.is_equal, result.tally.in_flight) == (True, 1)
    assert work().get(actor="look_up_payments").payload == {"ids": [str(again.pk)]}
    assert not UnmatchedCharge.objects.exists()


def test_no_payment_but_an_unknown_one_is_called_earlier(accept):
    """The next call of a payment that waits for a retry would be a charge."""
    payment = accept()
    settle_one(claim_one(payment.pk), Unavailable(detail="503"))
    payment.refresh_from_db()
    due_at = payment.next_attempt_at
    look_up_now(payment_id=payment.pk)
    payment.refresh_from_db()
    assert (payment.status, payment.next_attempt_at) == ("processing", due_at)


# --- from the gateway to us


def test_every_charge_without_its_payment_is_found_and_recorded_once(accept, sandbox, small_pages):
    pay(accept, 3)
    paid = Payment.objects.exclude(gateway_reference="").first()
    other = [charge_at(sandbox, order_id=None).reference for _ in range(3)]
    failed = accept(key="failed", payment_method="pm_declined")
    process_payments(payment_ids=[failed.pk])
    late = charge_at(sandbox, payment_id=str(failed.pk), key="late").reference
    amount = charge_at(sandbox, payment_id=str(failed.pk), key="amount", amount=1).reference
    currency = charge_at(sandbox, payment_id=str(failed.pk), key="currency", currency="USD").reference
    second = charge_at(sandbox, payment_id=str(paid.pk), key="second").reference
    result = compare()
    wanted = {(one, "no_payment") for one in other}
    wanted |= {(late, "payment_not_charged"), (amount, "amount_differs"), (currency, "currency_differs")}
    wanted |= {(second, "second_charge")}
    assert set(UnmatchedCharge.objects.values_list("reference", "reason")) == wanted
    assert kinds(result) == sorted((reason, reference) for reference, reason in wanted)
    assert set(UnmatchedCharge.objects.values_list("source", flat=True)) == {"reconcile"}
    again = compare()
    assert (kinds(again), again.tally.recorded) == (kinds(result), 0)


def test_what_staff_have_resolved_is_no_difference_any_more(merchant, sandbox):
    record(charge_at(sandbox))
    assert not compare().is_equal
    UnmatchedCharge.objects.update(
        state=State.DISMISSED, resolved_by="ada", resolution_reason="r", resolved_at=timezone.now()
    )
    result = compare()
    assert (result.is_equal, result.tally.resolved) == (True, 1)


def test_two_payments_with_one_charge_are_a_difference(accept, sandbox):
    (first,) = pay(accept, 1)
    settle_one(claim_one(accept(key="second").pk), Approved(reference=first.gateway_reference))
    result = compare()
    assert ("charge_shared", first.gateway_reference) in kinds(result)


# --- from us to the gateway


def test_a_payment_whose_charge_the_gateway_does_not_know_is_a_difference(accept, sandbox, small_pages):
    pay(accept, 4)
    settle_one(claim_one(accept(key="unknown to the gateway").pk), Approved(reference="ch_99"))
    result = compare()
    assert ("not_at_gateway", "ch_99") in kinds(result)
    assert result.payments == 5


def test_a_payment_whose_charge_was_made_after_the_period_is_looked_up_before_it_is_called_missing(accept, sandbox):
    pay(accept)
    journal = sandbox.server.journal
    journal._charge_times[0] = "2999-01-01T00:00:00.000000Z"
    result = compare()
    assert (result.is_equal, result.payments, result.tally.charges) == (True, 1, 0)


def test_a_gateway_that_lists_nothing_never_fills_the_memory(accept, sandbox, monkeypatch):
    pay(accept, 5)
    monkeypatch.setattr(reconciliation, "MAX_MISSING", 2)
    monkeypatch.setattr(reconciliation, "LOOK_UPS_AT_ONCE", 2)
    journal = sandbox.server.journal
    journal._charge_times[:] = ["2999-01-01T00:00:00.000000Z"] * 5
    journal._by_key.clear()
    result = compare()
    assert [kind for kind, _ in kinds(result)] == ["not_at_gateway"] * 5


def test_a_payment_that_was_made_before_the_period_is_not_asked_for(accept, sandbox):
    pay(accept)
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE payments_payment SET created_at = %s", [now - timedelta(hours=2)])
        cursor.execute("RESET session_replication_role")
    result = compare()
    assert (result.is_equal, result.payments, result.tally.matched) == (True, 0, 1)


# --- the gateway fails


def test_a_page_that_cannot_be_read_fails_the_comparison_instead_of_hiding_charges(accept, sandbox):
    pay(accept, 2)
    charges = sandbox.server.journal._charges
    charges[0] = replace(charges[0], currency="EURO")
    with pytest.raises(ListFailed, match="cannot be read"):
        compare()


def test_a_page_is_read_again_after_a_failure(accept, sandbox, monkeypatch):
    pay(accept, 1)
    charges, calls = sandbox.server.journal.charges, []

    def fail_once(**query):
        calls.append(query)
        if len(calls) == 1:
            raise ConnectionResetError
        return charges(**query)

    monkeypatch.setattr(sandbox.server.journal, "charges", fail_once)
    now = timezone.now()
    result = reconcile(gateway="sandbox", since=now - timedelta(hours=1), until=now, retry_delays=(0.0,))
    assert (result.is_equal, len(calls)) == (True, 2)


# --- the command


def command(*arguments):
    out = StringIO()
    try:
        call_command("reconcile", "--gateway", "sandbox", *arguments, stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue()
    return 0, out.getvalue()


def until_now():
    return ["--until", (timezone.now() + timedelta(seconds=1)).isoformat()]


def test_equal_books_end_with_status_0_and_a_summary(accept, sandbox):
    pay(accept, 2)
    status, text = command("--since", "24h", *until_now())
    assert status == 0
    assert "2 charges listed (2 matched" in text
    assert "2 payments with money compared: all agree" in text


def test_differences_end_with_status_1_and_a_line_for_each(merchant, sandbox):
    entry = charge_at(sandbox)
    status, text = command("--since", "2026-01-01T00:00Z", *until_now())
    assert status == 1
    assert f"no_payment: charge {entry.reference}, 10.00 EUR, payment {entry.payment_id}\n" in text
    assert "1 difference; 1 new unmatched charges recorded." in text


def test_the_result_can_be_read_by_machines(merchant, sandbox):
    entry = charge_at(sandbox)
    status, text = command("--since", "7d", "--json", *until_now())
    (document,) = json.loads(text)
    assert (status, document["equal"], document["charges"]) == (1, False, 1)
    assert document["differences"][0]["reference"] == entry.reference


def test_a_gateway_that_is_away_ends_with_status_2(sandbox, monkeypatch):
    monkeypatch.setattr(reconciliation, "RETRY_DELAYS_SECONDS", ())
    sandbox.stop()
    with pytest.raises(CommandError, match="did not return its charges") as failed:
        command("--since", "1h")
    assert failed.value.returncode == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "soon"], ["--since", "0h"], ["--since", "1w"], ["--since", "-1h"],
        ["--since", "1h", "--until", "2h"], ["--since", "2999-01-01"],
    ],
)  # fmt: skip
def test_a_period_that_makes_no_sense_is_refused(sandbox, options):
    with pytest.raises(CommandError) as refused:
        command(*options)
    assert refused.value.returncode in {1, 2}


def test_a_time_without_a_zone_is_utc(merchant, sandbox):
    assert datetime(2026, 1, 1, tzinfo=UTC).isoformat() in command("--since", "2026-01-01", "--json", *until_now())[1]
