"""Staff see charges without a payment at once, and decide with a reason, a second approver and an audit entry."""

import io
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse

from console.cards import unmatched_charges
from console.doctor import gateways
from merchants import approvals
from merchants.approval_threshold import decided_alone
from merchants.audit import Who
from merchants.confirmation import CONFIRMED_AT
from merchants.models import Approval, AuditEntry
from merchants.refusals import ApprovalOwn
from payments.errors import UnmatchedChargeResolved
from payments.models import Payment, UnmatchedCharge
from payments.operations import adopt_charge, refund_unmatched_charge, request_refund
from payments.operations.resolve_unmatched_charge import REFUND_REQUESTED
from tests.console import age, browser, person
from tests.unmatched import ADA, charge_at, entry_of, record

pytestmark = pytest.mark.django_db(transaction=True)

BOB = Who("user:bob", AuditEntry.Via.CONSOLE)
RULES = Path(django_settings.BASE_DIR) / "deploy" / "prometheus" / "payments.rules.yml"
WHY = {"reason": "the order was never delivered"}


@pytest.fixture
def charge(merchant):
    return record(entry_of(merchant))


def scrape():
    """Sample -> value, of the database's metrics."""
    text = Client().get("/metrics").content.decode()
    return dict(re.findall(r"^(payments_unmatched_charges\{.*\}) (\S+)$", text, re.MULTILINE))


# --- seen at once


def test_an_open_charge_is_in_the_metrics_at_the_next_scrape(charge):
    assert scrape() == {'payments_unmatched_charges{gateway="sandbox",state="open"}': "1.0"}
    adopt_charge(charge_id=charge.pk, who=ADA, reason="r")
    assert scrape() == {}


def test_every_alert_names_a_metric_that_exists_and_is_evaluated_within_a_minute(charge):
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {"PaymentsUnmatchedCharge", "PaymentsRefundStuck"} == {rule["alert"] for rule in rules}
    known = set(re.findall(r"^# TYPE (\w+)", Client().get("/metrics").content.decode(), re.MULTILINE))
    for rule in rules:
        assert set(re.findall(r"\bpayments_\w+", rule["expr"])) <= known
        document, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.*)$", (RULES.parents[2] / document).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    immediate = next(rule for rule in rules if rule["alert"] == "PaymentsUnmatchedCharge")
    assert "for" not in immediate
    assert {group["interval"] for group in groups} == {"30s"}


def test_health_is_degraded_while_a_charge_waits_for_a_decision(charge):
    document = Client().get("/health").json()
    assert document["parts"]["unmatched_charges"]["status"] == "degraded"
    adopt_charge(charge_id=charge.pk, who=ADA, reason="r")
    assert "unmatched_charges" not in Client().get("/health").json()["parts"]


def test_the_doctor_and_the_home_page_name_open_charges(charge):
    (finding,) = gateways.unmatched_charges()
    assert (finding.state, "1 at a gateway" in finding.says) == ("FAILED", True)
    assert (unmatched_charges().value, unmatched_charges().state) == ("1", "bad")
    adopt_charge(charge_id=charge.pk, who=ADA, reason="r")
    (finding,) = gateways.unmatched_charges()
    assert finding.state == "ok"
    assert unmatched_charges().state == ""


# --- the console


@pytest.fixture
def ada():
    return browser(person("ada"))


def page(verb, charge):
    return reverse(f"admin:payments_unmatchedcharge_{verb}", args=[charge.pk])


def test_the_pages_show_the_charge_and_lead_to_the_decisions(ada, charge):
    listed = ada.get(reverse("admin:payments_unmatchedcharge_changelist")).content.decode()
    assert charge.reference in listed
    shown = ada.get(reverse("admin:payments_unmatchedcharge_change", args=[charge.pk])).content.decode()
    for verb in ("adopt", "refund", "dismiss"):
        assert page(verb, charge) in shown
    assert "10.00 EUR" in shown


def test_a_charge_is_adopted_with_a_reason_and_an_audit_entry(ada, charge):
    assert ada.post(page("adopt", charge), {"reason": ""}).status_code == 200
    assert not Payment.objects.exists()
    ada.post(page("adopt", charge), WHY)
    assert Payment.objects.get().status == "succeeded"
    entry = AuditEntry.objects.get(action="unmatched_charge.adopted")
    assert (entry.actor, entry.reason) == ("user:ada", WHY["reason"])
    shown = ada.get(reverse("admin:payments_unmatchedcharge_change", args=[charge.pk])).content.decode()
    assert page("refund", charge) not in shown
    assert str(Payment.objects.get().pk) in shown


def test_a_refusal_is_shown_and_changes_nothing(ada, accept, charge, merchant):
    accept(order_id="o-1")
    other = record(replace(entry_of(merchant), order_id="o-1", amount=1))
    answer = ada.post(page("adopt", other), WHY, follow=True)
    assert "refund the charge instead" in answer.content.decode()
    other.refresh_from_db()
    assert other.state == "open"


@pytest.mark.parametrize("verb", ["adopt", "refund", "dismiss"])
def test_a_session_left_open_on_a_desk_moves_no_money(ada, charge, verb, settings):
    age(ada, CONFIRMED_AT, settings.ADMIN_CONFIRM_EVERY + 1)
    answer = ada.post(page(verb, charge), WHY)
    assert (answer.status_code, "/confirm/" in answer.url) == (302, True)
    charge.refresh_from_db()
    assert charge.state == "open"


@pytest.mark.parametrize("verb", ["adopt", "refund", "dismiss"])
def test_who_may_only_look_decides_nothing(charge, verb):
    viewer = browser(person("eve", is_superuser=False))
    assert viewer.post(page(verb, charge), WHY).status_code == 403


# --- a second approver


@pytest.fixture
def low_threshold(settings):
    settings.FOUR_EYES_ABOVE = {"EUR": "15"}


def test_a_refund_above_the_threshold_waits_for_a_second_approver(merchant, sandbox, settings):
    settings.FOUR_EYES_ABOVE = {"EUR": "9.99"}
    charge = record(charge_at(sandbox))
    approval = request_refund(charge_id=charge.pk, who=ADA, reason="r")
    assert isinstance(approval, Approval)
    assert request_refund(charge_id=charge.pk, who=ADA, reason="r") == approval
    assert UnmatchedCharge.objects.get().state == "open"
    agree = {"approval_id": approval.pk, "may": lambda _permission: True, "reason": "r"}
    with pytest.raises(ApprovalOwn):
        approvals.approve(who=ADA, **agree)
    approved = approvals.approve(who=BOB, **agree)
    assert approved.result == f"unmatched_charge:{charge.pk}"
    refund_unmatched_charge(charge_id=charge.pk)
    charge.refresh_from_db()
    assert (charge.state, charge.resolved_by) == ("refunded", "bob")
    assert decided_alone(REFUND_REQUESTED, BOB) == {}


def test_many_small_refunds_are_no_way_around_the_threshold(merchant, low_threshold):
    first, second = record(entry_of(merchant)), record(entry_of(merchant))
    assert isinstance(request_refund(charge_id=first.pk, who=ADA, reason="r"), UnmatchedCharge)
    assert decided_alone(REFUND_REQUESTED, ADA) == {"EUR": Decimal("10.00")}
    assert isinstance(request_refund(charge_id=second.pk, who=ADA, reason="r"), Approval)
    assert isinstance(request_refund(charge_id=second.pk, who=BOB, reason="r"), UnmatchedCharge)


def test_an_approved_refund_of_a_charge_that_was_adopted_meanwhile_does_nothing(merchant, settings):
    settings.FOUR_EYES_ABOVE = {"EUR": "1"}
    charge = record(entry_of(merchant))
    approval = request_refund(charge_id=charge.pk, who=ADA, reason="r")
    adopt_charge(charge_id=charge.pk, who=BOB, reason="r")
    with pytest.raises(UnmatchedChargeResolved):
        approvals.approve(approval_id=approval.pk, who=BOB, may=lambda _permission: True, reason="r")
    approval.refresh_from_db()
    assert approval.state == "pending"


# --- the command


def run(*arguments):
    out = io.StringIO()
    call_command("unmatched_charge", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_the_command_lists_and_decides(charge, merchant):
    other = record(entry_of(merchant))
    listed = run("list")
    assert f"{charge.pk}: sandbox {charge.reference}, 10.00 EUR, no_payment (open)\n" in listed
    assert run("adopt", charge.pk, "--reason", "r", "--by", "ada").startswith("Adopted: payment ")
    assert AuditEntry.objects.get(action="unmatched_charge.adopted").actor == "shell:ada"
    assert "a worker makes it" in run("refund", other.pk, "--reason", "r")
    assert "(refunding)" in run("list")
    third = record(entry_of(merchant))
    assert "no money was moved" in run("dismiss", third.pk, "--reason", "r")
    with pytest.raises(CommandError, match="not open any more"):
        run("dismiss", third.pk, "--reason", "r")
    with pytest.raises(CommandError, match="There is no unmatched charge 4711"):
        run("refund", 4711, "--reason", "r")
    with pytest.raises(CommandError, match="--reason takes"):
        run("refund", third.pk, "--reason", " ")


def test_the_command_says_when_there_is_nothing_to_decide(db):
    assert run("list") == "No charge waits for a decision.\n"


def test_no_gateway_call_is_made_inside_a_transaction(charge):
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        refund_unmatched_charge(charge_id=charge.pk)
