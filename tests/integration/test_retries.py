"""Retries: how long they wait, when they end, and how they are brought forward."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from merchants.audit import by_shell
from merchants.models import User
from messaging.models import DeadLetter, OutboxMessage
from payments import breaker, release
from payments.gateways.base import Approved, NotFound, OutcomeUnknown, Unavailable
from payments.models import Payment
from payments.operations import process_payments, retry_now
from payments.operations.schedule import LOOKUP_DELAYS
from tests.claiming import claim_one, settle_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)


def answered(payment, answer):
    following = settle_one(claim_one(payment.pk), answer)
    payment.refresh_from_db()
    return following


def columns(payment, **values):
    Payment.objects.filter(pk=payment.pk).update(**values)
    payment.refresh_from_db()


# --- how long


@pytest.mark.parametrize(("asked", "at_least", "at_most"), [(None, 1, 2), (0.1, 1, 2), (30, 30, 30)])
def test_no_retry_comes_before_the_time_that_the_gateway_asked_for(accept, asked, at_least, at_most):
    payment = accept()
    answered(payment, Unavailable(detail="429", retry_after=asked))
    waited = (payment.next_attempt_at - payment.attempts.get().finished_at).total_seconds()
    assert at_least <= waited <= at_most


# --- the age limit


def test_a_payment_nobody_took_up_in_time_is_never_charged_and_becomes_a_dead_letter(accept, sandbox):
    payment = accept(order_id="o-1")
    columns(payment, charge_before=HOUR_AGO)
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.holds_order) == ("failed", "expired", False)
    assert [event.type for event in payment.events.order_by("version")][1:] == ["payment.processing", "payment.failed"]
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.subject, letter.attempts) == ("expired", f"payment:{payment.pk}", 0)
    assert sandbox.charges() == []


def test_a_retry_that_came_of_age_is_not_sent(accept, sandbox):
    payment = accept()
    answered(payment, Unavailable(detail="503"))
    columns(payment, charge_before=HOUR_AGO, next_attempt_at=HOUR_AGO)
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.charge_attempts) == ("failed", "expired", 1)
    assert sandbox.charges() == []


def test_a_payment_that_waited_too_long_for_its_gateway_is_not_charged(accept, sandbox):
    breaker.pause("sandbox", reason="r", who=by_shell("b"))
    payment = accept()
    assert claim_one(payment.pk) is None
    columns(payment, charge_before=HOUR_AGO)
    breaker.resume("sandbox", who=by_shell("b"))
    release.run_once()
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.error_code, payment.held_since) == ("failed", "expired", None)
    assert sandbox.charges() == []


def test_an_unknown_outcome_never_fails_by_age(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="no answer"))
    columns(payment, charge_before=HOUR_AGO, next_attempt_at=HOUR_AGO)
    claim = claim_one(payment.pk)
    assert claim.kind == "lookup"
    settle_one(claim, Approved(reference="ch_1"))
    payment.refresh_from_db()
    assert payment.status == "succeeded"


def test_what_is_not_found_and_too_old_is_not_sent_again(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="no answer"))
    payment.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    columns(payment, charge_before=HOUR_AGO, next_attempt_at=HOUR_AGO)
    assert answered(payment, NotFound()) is None
    assert payment.status == "unknown"


def test_a_payment_that_may_have_been_charged_never_expires(accept):
    """Its lease ran out, so that a call may have been made: it is looked up, however old it is."""
    payment = accept()
    claim_one(payment.pk)
    columns(payment, charge_before=HOUR_AGO, lease_expires_at=HOUR_AGO)
    assert claim_one(payment.pk).kind == "lookup"


def test_the_age_limit_is_a_day_from_acceptance(accept):
    payment = accept()
    assert timedelta(hours=23) < payment.charge_before - payment.created_at < timedelta(hours=25)


# --- retry now


def test_a_retry_is_brought_forward_and_burns_nothing(accept):
    payment = accept()
    answered(payment, Unavailable(detail="503"))
    OutboxMessage.objects.all().delete()
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"))
    assert work().get().payload == {"ids": [str(payment.pk)]}
    answered(payment, Unavailable(detail="503"))
    assert payment.retries == 1


def test_a_look_up_is_brought_forward_and_never_becomes_a_charge(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="no answer"))
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"))
    assert claim_one(payment.pk).kind == "lookup"


def test_a_payment_whose_look_ups_are_used_up_can_be_looked_up_once_more(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="no answer"))
    columns(payment, lookups=len(LOOKUP_DELAYS), next_attempt_at=HOUR_AGO)
    answered(payment, OutcomeUnknown(detail="no answer"))
    assert (payment.needs_review, payment.next_attempt_at) == (True, None)
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"))
    answered(payment, Approved(reference="ch_1"))
    assert payment.status == "succeeded"


def test_an_impatient_operator_shortens_no_schedule(accept):
    """During an outage, look-ups and retries are brought forward more often than there are of them."""
    unknown, retrying = accept(key="unknown"), accept(key="retrying")
    answered(unknown, OutcomeUnknown(detail="no answer"))
    answered(retrying, Unavailable(detail="503"))
    for _ in range(len(LOOKUP_DELAYS) + 1):
        for payment, answer in ((unknown, OutcomeUnknown(detail="away")), (retrying, Unavailable(detail="503"))):
            assert retry_now(payment_id=payment.pk, who=by_shell("alice"))
            answered(payment, answer)
    assert (unknown.status, unknown.lookups, unknown.needs_review) == ("unknown", 1, False)
    assert (retrying.status, retrying.retries) == ("processing", 1)


def test_a_payment_that_somebody_has_in_hand_is_left_to_them(accept):
    payment = accept()
    answered(payment, OutcomeUnknown(detail="no answer"))

    def impatient():
        try:
            return retry_now(payment_id=payment.pk, who=by_shell("alice"))
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        Payment.objects.select_for_update().get(pk=payment.pk)
        assert pool.submit(impatient).result(10) is False


def test_a_call_under_way_is_never_doubled(accept):
    payment = accept()
    claim_one(payment.pk)
    OutboxMessage.objects.all().delete()
    assert not retry_now(payment_id=payment.pk, who=by_shell("alice"))
    assert not work().exists()


def test_a_final_payment_is_not_taken_up_again(accept):
    payment = accept()
    answered(payment, Approved(reference="ch_1"))
    OutboxMessage.objects.all().delete()
    assert not retry_now(payment_id=payment.pk, who=by_shell("alice"))
    assert not work().exists()


def test_a_paused_gateway_is_respected(accept, sandbox):
    payment = accept()
    answered(payment, Unavailable(detail="503"))
    breaker.pause("sandbox", reason="r", who=by_shell("b"))
    assert retry_now(payment_id=payment.pk, who=by_shell("alice"))
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert payment.held_since is not None
    assert sandbox.charges() == []


def test_the_command_says_what_it_did(accept):
    waiting, final = accept(key="a"), accept(key="b")
    answered(waiting, Unavailable(detail="503"))
    answered(final, Approved(reference="ch_1"))
    out = StringIO()
    call_command("retry_now", str(waiting.pk), str(final.pk), str(uuid4()), stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0] == f"{waiting.pk} is taken up now."
    assert all("does not wait" in line for line in lines[1:])


def test_the_command_works_for_a_user_without_a_name(accept, monkeypatch):
    """As in a container that runs under any number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    call_command("gateway", "status", stdout=StringIO())
    call_command("retry_now", str(uuid4()), stdout=StringIO())


def test_the_command_does_nothing_where_an_id_is_wrong(accept):
    payment = accept()
    answered(payment, Unavailable(detail="503"))
    with pytest.raises(CommandError, match="'nonsense' is not the id of a payment; nothing was done"):
        call_command("retry_now", str(payment.pk), "nonsense")
    assert work().count() == 2  # its own and that of its retry


def change_list(user, *payments):
    client = Client()
    client.force_login(user)
    data = {"action": "take_up_now", "reason": "r1", "_selected_action": [str(payment.pk) for payment in payments]}
    return client.post(reverse("admin:payments_payment_changelist"), data, follow=True)


def test_the_admin_brings_a_selection_forward(accept):
    waiting, final = accept(key="a"), accept(key="b")
    answered(waiting, Unavailable(detail="503"))
    answered(final, Approved(reference="ch_1"))
    page = change_list(User.objects.create_superuser("staff", password="not-typed"), waiting, final)
    assert b"Taken up now: 1. Did not wait for anything: 1." in page.content
    assert claim_one(waiting.pk) is not None


def test_the_admin_lets_nobody_without_the_right_do_it(accept):
    payment = accept()
    answered(payment, Unavailable(detail="503"))
    OutboxMessage.objects.all().delete()
    change_list(User.objects.create_user("plain", password="not-typed", is_staff=True), payment)
    assert not work().exists()
