"""A gateway's webhooks: stored first, believed only when signed, and harmless in any order and number."""

import base64
import hashlib
import hmac
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models.functions import Now
from django.test import Client
from structlog.testing import capture_logs

from messaging.models import OutboxMessage
from payments import rescue
from payments.declines import ERRORS
from payments.errors import OrderAlreadyPaid
from payments.gateways import registry
from payments.gateways.base import Approved, Declined, OutcomeUnknown
from payments.models import GatewayEvent, Payment, UnmatchedCharge
from payments.operations import handle_gateway_event, process_payments
from payments.reads import last_error
from tests.claiming import claim_one, settle_one
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1/gateways/sandbox/webhooks"
KEY = b"the key that the gateway and we share"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER = "whsec_" + base64.b64encode(b"a key that only somebody else knows").decode()


@pytest.fixture(autouse=True)
def secrets(settings):
    """Two, as while one is replaced."""
    entry = settings.GATEWAYS["sandbox"]
    options = {**entry["OPTIONS"], "webhook_secrets": [OTHER, SECRET]}
    settings.GATEWAYS = {"sandbox": {**entry, "OPTIONS": options}}
    registry.get.cache_clear()
    yield
    registry.get.cache_clear()


def event_of(payment, kind="charge.succeeded", event_id="evt_1", **charge):
    told = {
        "charge": "ch_00000001",
        "idempotency_key": payment.gateway_key,
        "payment_id": str(payment.pk),
        "amount": payment.amount,
        "currency": payment.currency,
        "status": "approved",
        "decline_code": None,
    }
    return {"id": event_id, "type": kind, "created_at": "2026-01-01T00:00:00Z", "data": {**told, **charge}}


def send(document, *, key=KEY, late=0, url=URL, **headers):
    """POST as the gateway does; the signature is computed here, by the book and without the library."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    event_id = document["id"] if isinstance(document, dict) else "evt_1"
    timestamp = str(int(time.time() - late))
    signed = f"{event_id}.{timestamp}.".encode() + body
    signature = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    sent = {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signature, **headers}
    client = Client(raise_request_exception=False)
    return client.post(url, body, content_type="application/json", headers=sent)


def handle_all():
    for event in GatewayEvent.objects.order_by("id"):
        handle_gateway_event(event_id=event.pk)


def told(payment, document):
    """The gateway tells it, and we take it up."""
    assert send(document).status_code == 200
    handle_all()
    payment.refresh_from_db()
    return GatewayEvent.objects.get(event_id=document["id"]).result


def unknown(accept, **fields):
    payment = accept(**fields)
    settle_one(claim_one(payment.pk), OutcomeUnknown(detail="no answer"))
    payment.refresh_from_db()
    return payment


# --- stored first


def test_an_event_is_stored_with_its_message_before_anything_is_made_of_it(accept):
    payment = unknown(accept)
    OutboxMessage.objects.all().delete()
    answer = send(event_of(payment))
    assert (answer.status_code, answer.json()) == (200, {"stored": True, "known": False})
    event = GatewayEvent.objects.get()
    assert (event.handled_at, event.result, event.body["data"]["payment_id"]) == (None, "", str(payment.pk))
    message = work().get()
    assert (message.actor, message.payload) == ("handle_gateway_events", {"ids": [event.pk]})
    payment.refresh_from_db()
    assert payment.status == "unknown"


def test_the_same_event_again_is_stored_once(accept):
    payment = unknown(accept)
    OutboxMessage.objects.all().delete()
    answers = [send(event_of(payment)) for _ in range(3)]
    assert [answer.json()["known"] for answer in answers] == [False, True, True]
    assert GatewayEvent.objects.count() == work().count() == 1


def test_the_same_event_at_once_from_many_connections_is_stored_once(accept):
    document = event_of(unknown(accept))

    def one(_):
        try:
            return send(document).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(24))) == {200}
    assert GatewayEvent.objects.count() == 1


def test_an_event_whose_message_was_lost_is_rescued(accept):
    payment = unknown(accept)
    send(event_of(payment))
    OutboxMessage.objects.all().delete()
    Payment.objects.update(revive_at=Now() + timedelta(hours=1))
    assert rescue.run_once() == 0
    GatewayEvent.objects.update(revive_at=Now() - timedelta(seconds=1))
    assert rescue.run_once() == 1
    assert work().get().payload == {"ids": [GatewayEvent.objects.get().pk]}
    handle_all()
    assert GatewayEvent.objects.get().revive_at is None
    assert rescue.run_once() == 0


# --- believed only when signed


@pytest.mark.parametrize(
    "change",
    [
        {"key": b"not the key that they share"},
        {"late": 3600},
        {"late": -3600},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,bm90IGl0"},
        {"webhook-signature": "v1,%%%"},
        {"webhook-signature": "garbage"},
        {"webhook-id": "evt_2"},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": ""},
    ],
    ids=str,
)
def test_what_the_gateway_did_not_sign_just_now_is_not_stored(accept, change):
    payment = unknown(accept)
    answer = send(event_of(payment), **change)
    assert answer.status_code == 401
    assert answer.json()["code"] == "webhook_not_authentic"
    assert not GatewayEvent.objects.exists()


def test_a_webhook_without_any_signature_is_not_stored(accept):
    answer = Client().post(URL, event_of(unknown(accept)), content_type="application/json")
    assert answer.status_code == 401
    assert not GatewayEvent.objects.exists()


def test_a_body_changed_on_its_way_is_not_stored(accept):
    payment = unknown(accept)
    signed = json.dumps(event_of(payment)).encode()
    timestamp = str(int(time.time()))
    digest = hmac.new(KEY, b"evt_1." + timestamp.encode() + b"." + signed, hashlib.sha256).digest()
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    forged = signed.replace(b"charge.succeeded", b"charge.succeedex")
    assert Client().post(URL, forged, content_type="application/json", headers=headers).status_code == 401
    assert Client().post(URL, signed, content_type="application/json", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"id": "", "type": "x"}',
        b'{"id": null, "type": "x"}',
        b'{"id": 7, "type": "x"}',
        b'{"id": "e", "type": ["x"]}',
        b"{}",
        b"[" * 60_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_signed_body_that_is_no_event_is_not_stored(body):
    answer = send(body)
    assert answer.status_code == 401
    assert not GatewayEvent.objects.exists()


def test_a_body_over_the_limit_is_not_read(settings):
    answer = send(b"x" * (settings.MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


def test_a_gateway_that_nobody_knows_or_that_has_no_secret_cannot_tell_anything(settings, accept):
    payment = unknown(accept)
    assert send(event_of(payment), url="/api/v1/gateways/elsewhere/webhooks").status_code == 404
    settings.GATEWAYS["sandbox"]["OPTIONS"]["webhook_secrets"] = []
    assert send(event_of(payment)).status_code == 404
    assert not GatewayEvent.objects.exists()


@pytest.mark.parametrize(
    "extra",
    [
        {"note": "a\0b\ud800"},
        {"tags": ["a\0b", ["\ud800"]]},
        {"n\0": 1},
        {"x": float("nan")},
        {"x": {"y": float("inf")}},
    ],
    ids=repr,
)
def test_what_postgresql_cannot_hold_keeps_no_approval_out(accept, extra):
    payment = unknown(accept)
    assert told(payment, event_of(payment, **extra)) == "approval taken up"


def test_the_webhook_of_an_ordinary_payment_warns_of_nothing(accept, caplog):
    payment = accept()
    settle_one(claim_one(payment.pk), Approved(reference="ch_00000001"))
    with capture_logs() as lines:
        told(payment, event_of(payment))
    assert lines
    assert {line["log_level"] for line in lines} == {"info"}
    assert [record for record in caplog.records if record.levelname not in {"INFO", "DEBUG"}] == []


# --- what it leads to


def test_an_approval_settles_an_unknown_outcome_without_asking(accept):
    payment = unknown(accept)
    assert told(payment, event_of(payment)) == "approval taken up"
    assert (payment.status, payment.gateway_reference) == ("succeeded", "ch_00000001")
    assert GatewayEvent.objects.get().payment_id == payment.pk


def test_an_approval_before_the_answer_to_the_call_settles_and_the_answer_changes_nothing(accept):
    """The webhook overtakes the response."""
    payment = accept()
    claim = claim_one(payment.pk)
    assert told(payment, event_of(payment)) == "approval taken up"
    settle_one(claim, OutcomeUnknown(detail="no whole answer within 20 s"))
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert [attempt.outcome for attempt in payment.attempts.all()] == ["unknown"]
    assert (payment.needs_review, payment.error_code, payment.next_attempt_at) == (False, "", None)


def test_the_answer_of_the_same_charge_after_its_webhook_is_no_second_charge(accept):
    payment = accept()
    claim = claim_one(payment.pk)
    told(payment, event_of(payment))
    settle_one(claim, Approved(reference="ch_00000001"))
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review) == ("succeeded", False)


def test_an_approval_of_what_succeeded_is_nothing_new(accept):
    payment = accept()
    settle_one(claim_one(payment.pk), Approved(reference="ch_00000001"))
    assert told(payment, event_of(payment)) == "known already"
    assert (payment.status, payment.needs_review) == ("succeeded", False)


def test_an_approval_after_a_failure_is_a_late_success(accept):
    payment = accept(order_id="o-1")
    settle_one(claim_one(payment.pk), Declined(decline_code="x", detail=""))
    assert told(payment, event_of(payment, charge="ch_9")) == "approval taken up"
    assert (payment.status, payment.error_code, payment.needs_review) == ("failed", "late_success", True)
    assert (payment.holds_order, payment.amount_captured) == (True, payment.amount)


def test_an_approval_under_the_reference_of_the_decline_is_a_late_success(accept):
    """One object of the gateway, first declined and then paid after all."""
    payment = accept(order_id="o-1")
    settle_one(claim_one(payment.pk), Declined(decline_code="card_declined", detail="no", reference="pi_1"))
    assert told(payment, event_of(payment, charge="pi_1")) == "approval taken up"
    assert (payment.amount_captured, payment.needs_review) == (payment.amount, True)


def test_nobody_is_told_to_pay_again_after_a_late_success(accept):
    payment = accept(order_id="o-1")
    settle_one(claim_one(payment.pk), Declined(decline_code="card_declined", detail="no"))
    told(payment, event_of(payment))
    assert last_error(payment)["advice"] == ERRORS["late_success"]
    with pytest.raises(OrderAlreadyPaid):
        accept(key="again", order_id="o-1")


def test_two_late_successes_are_two_charges(accept):
    payment = accept()
    settle_one(claim_one(payment.pk), Declined(decline_code="card_declined", detail="no"))
    told(payment, event_of(payment, charge="ch_2"))
    told(payment, event_of(payment, charge="ch_3", event_id="evt_2"))
    assert (payment.error_code, payment.gateway_reference, payment.error_detail) == ("charged_twice", "ch_2", "ch_3")


def test_a_second_charge_of_a_succeeded_payment_is_flagged_once(accept):
    payment = accept()
    settle_one(claim_one(payment.pk), Approved(reference="ch_1"))
    assert told(payment, event_of(payment, charge="ch_2")) == "approval taken up"
    assert told(payment, event_of(payment, charge="ch_2", event_id="evt_2")) == "known already"
    assert (payment.status, payment.error_code) == ("succeeded", "charged_twice")
    assert payment.events.filter(type="payment.needs_review").count() == 1


def test_an_approval_of_a_payment_that_nobody_has_taken_up_yet_settles_it(accept):
    """As after a replay, when the first charge turns out to have gone through."""
    payment = accept()
    assert told(payment, event_of(payment)) == "approval taken up"
    assert payment.status == "succeeded"
    assert claim_one(payment.pk) is None


def test_a_decline_is_not_believed_but_looked_up_at_once(accept):
    payment = unknown(accept)
    assert payment.next_attempt_at > payment.created_at + timedelta(seconds=1)
    result = told(payment, event_of(payment, "charge.failed", decline_code="card_declined"))
    assert (result, payment.status) == ("look-up brought forward", "unknown")
    assert claim_one(payment.pk).kind == "lookup"


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"amount": 1}, "contradicts the payment"),
        ({"amount": 1000.9}, "says nothing definite"),
        ({"currency": "USD"}, "contradicts the payment"),
        ({"payment_id": "0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"}, "no such payment"),
        ({"charge": None}, "says nothing definite"),
        ({"charge": ""}, "says nothing definite"),
        ({"charge": 7}, "says nothing definite"),
        ({"charge": ["ch_1"]}, "says nothing definite"),
        ({"charge": True}, "says nothing definite"),
        ({"currency": None}, "says nothing definite"),
        ({"currency": ["EUR"]}, "says nothing definite"),
        ({"amount": True}, "says nothing definite"),
        ({"payment_id": None}, "says nothing definite"),
        ({"payment_id": "not an id"}, "says nothing definite"),
        ({"payment_id": 7}, "says nothing definite"),
        ({"amount": "much"}, "says nothing definite"),
        ({"kind": "charge.pending"}, "says nothing definite"),
        ({"kind": "payout.paid"}, "says nothing definite"),
    ],
    ids=str,
)
def test_an_event_that_does_not_fit_changes_nothing_and_is_kept(accept, change, result):
    payment = unknown(accept)
    assert told(payment, event_of(payment, **change)) == result
    assert payment.status == "unknown"


def test_an_event_of_another_gateway_moves_no_payment(accept):
    payment = unknown(accept)
    Payment.objects.update(gateway="other")
    assert told(payment, event_of(payment)) == "no such payment"
    assert payment.status == "unknown"


# --- a charge that no payment accounts for

UNKNOWN_ID = "0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"


def unmatched():
    """Each review: the charge, why, how it was found, and its state."""
    return list(UnmatchedCharge.objects.values_list("reference", "reason", "source", "state"))


def test_a_charge_of_an_unknown_payment_is_never_only_a_log_line(accept):
    document = event_of(accept(), payment_id=UNKNOWN_ID, merchant="shop", order_id="o-9")
    with capture_logs() as logs:
        assert told(accept(key="key-2"), document) == "no such payment"
    assert unmatched() == [("ch_00000001", "no_payment", "webhook", "open")]
    charge = UnmatchedCharge.objects.get()
    stated = document["data"]
    assert (charge.amount, charge.currency, charge.gateway_payment_id) == (1000, "EUR", UNKNOWN_ID)
    assert (charge.merchant_slug, charge.order_id, charge.gateway_key) == ("shop", "o-9", stated["idempotency_key"])
    assert charge.charged_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert [line["log_level"] for line in logs if line["event"] == "unmatched_charge"] == ["error"]


@pytest.mark.parametrize(
    ("change", "reason"), [({"amount": 1001}, "amount_differs"), ({"currency": "USD"}, "currency_differs")]
)
def test_a_charge_of_other_terms_than_its_payment_is_recorded(accept, change, reason):
    payment = unknown(accept)
    assert told(payment, event_of(payment, **change)) == "contradicts the payment"
    assert unmatched() == [("ch_00000001", reason, "webhook", "open")]
    assert payment.status == "unknown"


def test_a_second_charge_of_a_paid_payment_is_recorded(accept):
    payment = unknown(accept)
    told(payment, event_of(payment))
    told(payment, event_of(payment, event_id="evt_2", charge="ch_00000002"))
    assert unmatched() == [("ch_00000002", "second_charge", "webhook", "open")]
    assert (payment.error_code, payment.gateway_reference) == ("charged_twice", "ch_00000001")


def test_a_declined_charge_of_an_unknown_payment_moved_no_money_and_is_not_recorded(accept):
    payment = accept()
    told(payment, event_of(payment, "charge.failed", payment_id=UNKNOWN_ID, decline_code="card_declined"))
    told(payment, event_of(payment, "charge.failed", "evt_2", amount=1, decline_code="card_declined"))
    assert unmatched() == []


def test_a_repeated_or_late_webhook_records_a_charge_once_and_opens_no_resolved_review(accept):
    payment = accept()
    told(payment, event_of(payment, payment_id=UNKNOWN_ID))
    told(payment, event_of(payment, event_id="evt_2", payment_id=UNKNOWN_ID))
    assert len(unmatched()) == 1
    UnmatchedCharge.objects.update(state="dismissed", resolved_by="ada", resolution_reason="r", resolved_at=Now())
    told(payment, event_of(payment, event_id="evt_3", payment_id=UNKNOWN_ID))
    assert unmatched() == [("ch_00000001", "no_payment", "webhook", "dismissed")]


def test_the_charge_of_a_forgotten_payment_that_the_clients_retry_has_is_known(accept):
    payment = unknown(accept)
    told(payment, event_of(payment))
    assert told(payment, event_of(payment, event_id="evt_2", payment_id=UNKNOWN_ID)) == "known already"
    assert unmatched() == []
    assert GatewayEvent.objects.get(event_id="evt_2").payment == payment


@pytest.mark.parametrize("change", [{"amount": 0}, {"amount": -5}, {"amount": 2**63}, {"currency": "x" * 300}])
def test_nonsense_about_an_unknown_payment_is_logged_and_blocks_no_event(accept, change):
    assert told(accept(), event_of(accept(), payment_id=UNKNOWN_ID, **change)) == "no such payment"
    assert unmatched() == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_any_order_of_arrival_gives_the_same_final_state(accept, sandbox, settings, order):
    payment = unknown(accept)
    documents = [
        event_of(payment, "charge.pending", "evt_1_pending"),
        event_of(payment, "charge.succeeded", "evt_1"),
        event_of(payment, "charge.succeeded", "evt_1"),
    ]
    for number in order:
        told(payment, documents[number])
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.needs_review, payment.version) == ("succeeded", False, 4)
    assert sandbox.charges() == []  # nothing was sent


def test_an_event_is_handled_once_however_many_hands_take_it(accept):
    payment = unknown(accept)
    send(event_of(payment))
    event = GatewayEvent.objects.get()

    def work(_):
        try:
            handle_gateway_event(event_id=event.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert payment.events.filter(type="payment.succeeded").count() == 1


def test_an_event_that_does_not_exist_is_left_alone(db):
    handle_gateway_event(event_id=4711)
