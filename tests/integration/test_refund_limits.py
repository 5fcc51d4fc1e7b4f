"""When a refund of a charge without a payment may be sent again, and what its look-up has to say for that."""

import json
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from messaging.models import OutboxMessage
from payments import breaker
from payments.gateways import registry, sandbox_refunds
from payments.gateways.base import ListedCharge, NotFound, OutcomeUnknown, RefundRequest
from payments.gateways.transport import Answer
from payments.models import UnmatchedCharge
from payments.operations import refund_unmatched_charge
from payments.operations.listed_charges import facts_of
from payments.operations.refund_unmatched_charge import HELD_DELAY_SECONDS
from payments.operations.resolve_unmatched_charge import adopt_charge, begin_refund
from payments.operations.unmatched_charges import ChargeFacts
from tests.claiming import wait_for
from tests.unmatched import ADA, charge_at, record

pytestmark = pytest.mark.django_db(transaction=True)

REQUEST = RefundRequest(key="r-1", reference="ch_1", amount=1000, currency="EUR", request_id="r")


@pytest.fixture
def refunding(merchant, sandbox):
    charge = record(charge_at(sandbox))
    with transaction.atomic():
        begin_refund(charge_id=charge.pk, who=ADA, reason="the order was never delivered")
    return charge


def refunds(sandbox):
    return [effect for effect in sandbox.server.journal.effects() if effect["operation"] == "refund"]


@pytest.mark.parametrize(("left", "sent"), [(-10, 0), (10, 1)])
def test_a_refund_is_sent_again_only_if_its_lease_ends_within_the_key_window(refunding, sandbox, left, sent):
    """A request that is under way when the window ends would be taken for a new one."""
    gateway = registry.get("sandbox")
    sent_at = Now() - (gateway.adapter.key_window - gateway.lease - timedelta(seconds=left))
    UnmatchedCharge.objects.update(refund_attempts=1, refund_sent_at=sent_at)
    refund_unmatched_charge(charge_id=refunding.pk)
    refunding.refresh_from_db()
    assert (len(refunds(sandbox)), refunding.state) == (sent, "refunded" if sent else "open")


def test_a_refund_at_a_paused_gateway_is_due_again_after_a_wait(refunding, sandbox):
    breaker.pause("sandbox", reason="maintenance", who=ADA)
    UnmatchedCharge.objects.update(next_attempt_at=Now(), stuck_check_at=Now())
    OutboxMessage.objects.all().delete()
    refunding.refresh_from_db()
    was_due = refunding.next_attempt_at
    refund_unmatched_charge(charge_id=refunding.pk)
    refunding.refresh_from_db()
    assert refunding.next_attempt_at == refunding.stuck_check_at
    assert (refunding.next_attempt_at - was_due).total_seconds() >= HELD_DELAY_SECONDS


class Wire:
    """Stands in for the network: one answer for whatever is sent."""

    def __init__(self, answer):
        self.answer = answer

    async def send(self, method, url, **request):
        return self.answer


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "refund_not_found", NotFound),
        (404, "charge_not_found", OutcomeUnknown),
        (404, "", OutcomeUnknown),
        (400, "refund_not_found", OutcomeUnknown),
        (500, "refund_not_found", OutcomeUnknown),
        (503, "refund_not_found", OutcomeUnknown),
    ],
)
def test_only_the_gateways_own_404_says_that_a_refund_was_not_made(monkeypatch, status, code, expected):
    """Anything else taken for it would send the refund again."""
    answer = Answer(status, json.dumps({"error": {"code": code, "message": "m"}}).encode())
    monkeypatch.setattr(sandbox_refunds, "shared_transport", lambda: Wire(answer))
    found = wait_for(sandbox_refunds.find_refund("http://gateway", REQUEST, deadline=1.0))
    assert type(found) is expected


def test_a_payment_of_another_order_does_not_keep_a_charge_from_its_decision(accept, sandbox):
    accept(order_id="another-order")
    charge = record(charge_at(sandbox, order_id="o-1"))
    assert adopt_charge(charge_id=charge.pk, who=ADA, reason="found in the gateway's books")


def test_a_look_up_of_a_refund_leaves_time_for_the_refund_and_a_second_look_up(refunding, sandbox, monkeypatch):
    """Three calls end within the lease, which is at least two deadlines."""
    gateway, deadlines = registry.get("sandbox"), []

    async def send(_self, method, url, *, deadline, **request):
        deadlines.append((method, deadline))
        return Answer(404 if method == "GET" else 400, b'{"error": {"code": "refund_not_found", "message": "m"}}')

    monkeypatch.setattr(sandbox_refunds, "shared_transport", type("Wire", (), {"send": send}))
    UnmatchedCharge.objects.update(refund_attempts=1, refund_sent_at=Now())
    refund_unmatched_charge(charge_id=refunding.pk)
    third = gateway.deadline / 3
    assert deadlines == [("GET", third), ("POST", gateway.deadline), ("GET", third)]


def test_what_the_gateway_states_of_a_listed_charge_is_kept_whole():
    moment = timezone.now()
    charge = ListedCharge(
        reference="ch_1", approved=True, amount=1000, currency="EUR", key="k", payment_id="p", merchant="shop",
        order_id="o", charged_at=moment,
    )  # fmt: skip
    assert facts_of("sandbox", charge) == ChargeFacts(
        gateway="sandbox", reference="ch_1", amount=1000, currency="EUR", gateway_key="k", gateway_payment_id="p",
        merchant_slug="shop", order_id="o", charged_at=moment,
    )  # fmt: skip
