"""What the sandbox adapter makes of webhooks and of declines: only what is signed, whole, and has the right status."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from payments.gateways import sandbox
from payments.gateways.base import Approved, ChargeRequest, Declined, News, NotAuthentic, NotFound
from payments.gateways.sandbox import SandboxGateway, read_decision
from payments.gateways.transport import Answer
from tests.claiming import wait_for

SECRETS = ["whsec_dGhlLWZpcnN0LXNlY3JldC1vZi1hLXRlc3Q=", "whsec_dGhlLXNlY29uZC1zZWNyZXQtb2YtYS10ZXN0"]
PAYMENT_ID = "0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"
CHARGE = {"payment_id": PAYMENT_ID, "amount": 1000, "currency": "EUR", "charge": "ch_1", "idempotency_key": "k:1"}


@pytest.fixture
def adapter():
    return SandboxGateway("http://gateway", webhook_secrets=SECRETS)


def read(adapter, kind, **changes):
    return adapter.read_event({"type": kind, "data": {**CHARGE, **changes}})


def news(answer, key="k:1"):
    return News(payment_id=UUID(PAYMENT_ID), amount=1000, currency="EUR", answer=answer, key=key)


def test_a_charge_that_succeeded_is_an_approval_with_every_term(adapter):
    assert read(adapter, "charge.succeeded") == news(Approved(reference="ch_1"))


def test_a_charge_that_failed_is_a_decline_with_its_reason_and_reference(adapter):
    expected = Declined(decline_code="card_expired", detail="", reference="ch_1")
    assert read(adapter, "charge.failed", decline_code="card_expired") == news(expected)


@pytest.mark.parametrize("code", [None, "", 0])
def test_a_decline_without_a_reason_has_the_general_one(adapter, code):
    answer = read(adapter, "charge.failed", decline_code=code).answer
    assert answer == Declined(decline_code="declined", detail="", reference="ch_1")


def test_texts_are_cut_to_the_length_of_their_columns(adapter):
    found = read(adapter, "charge.failed", decline_code="c" * 51, charge="r" * 256)
    assert (len(found.answer.decline_code), len(found.answer.reference)) == (50, 255)


@pytest.mark.parametrize("key", [None, 7, ["k"]])
def test_a_key_that_is_no_text_is_none(adapter, key):
    assert read(adapter, "charge.succeeded", idempotency_key=key) == news(Approved(reference="ch_1"), key="")


@pytest.mark.parametrize("amount", [10.9, "1000", None, True])
def test_an_amount_that_is_no_whole_number_is_never_taken_for_one(adapter, amount):
    assert read(adapter, "charge.succeeded", amount=amount) is None


@pytest.mark.parametrize("name", ["payment_id", "amount", "currency", "charge"])
def test_an_event_that_leaves_something_out_says_nothing(adapter, name):
    data = {key: value for key, value in CHARGE.items() if key != name}
    assert adapter.read_event({"type": "charge.succeeded", "data": data}) is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "charge.succeeded"},
        {"type": "charge.updated", "data": CHARGE},
        {"type": "charge.failed", "data": []},
    ],
)
def test_what_is_no_event_of_a_charge_says_nothing(adapter, body):
    assert adapter.read_event(body) is None


@pytest.mark.parametrize("payment_id", ["", "not-an-id", 7, None])
def test_an_event_of_another_kind_of_id_says_nothing(adapter, payment_id):
    assert read(adapter, "charge.succeeded", payment_id=payment_id) is None


def signed(document, secret, *, age=timedelta(0)):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    moment = datetime.now(tz=UTC) - age
    signature = Webhook(secret).sign("msg_1", moment, body.decode())
    return {
        "headers": {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signature,
        },
        "body": body,
    }


EVENT = {"id": "evt_1", "type": "charge.succeeded", "data": CHARGE}


@pytest.mark.parametrize("secret", SECRETS)
def test_an_event_signed_with_any_of_the_secrets_is_authentic(adapter, secret):
    event = adapter.verify_webhook(**signed(EVENT, secret))
    assert (event.id, event.type, event.body) == ("evt_1", "charge.succeeded", EVENT)


def test_an_id_and_a_type_are_cut_to_the_length_of_their_columns(adapter):
    event = adapter.verify_webhook(**signed({"id": "i" * 256, "type": "t" * 101}, SECRETS[0]))
    assert (len(event.id), len(event.type)) == (255, 100)


@pytest.mark.parametrize(
    "request_",
    [
        signed(EVENT, "whsec_YW5vdGhlciBzZWNyZXQgYWx0b2dldGhlcg=="),
        signed(EVENT, SECRETS[0], age=timedelta(hours=1)),
        signed({"type": "charge.succeeded"}, SECRETS[0]),
        signed({"id": "evt_1"}, SECRETS[0]),
        signed({"id": "", "type": ""}, SECRETS[0]),
        signed(b"[]", SECRETS[0]),
        {"headers": {}, "body": b"{}"},
        {**signed(EVENT, SECRETS[0]), "body": b'{"id": "evt_2", "type": "t"}'},
    ],
    ids=["foreign secret", "old", "no id", "no type", "empty", "no object", "no signature", "other body"],
)
def test_anything_else_is_not_authentic(adapter, request_):
    with pytest.raises(NotAuthentic):
        adapter.verify_webhook(**request_)


def test_without_a_secret_nothing_is_authentic():
    with pytest.raises(NotAuthentic):
        SandboxGateway("http://gateway").verify_webhook(**signed(EVENT, SECRETS[0]))


REQUEST = ChargeRequest(
    key="k:charge:1",
    payment_id=UUID(PAYMENT_ID),
    merchant="shop",
    order_id="o-1",
    amount=1000,
    currency="EUR",
    payment_method="pm_ok",
    request_id="r",
)
DECLINE = b'{"error": {"code": "declined", "decline_code": "card_declined", "message": "no", "charge": "ch_1"}}'


@pytest.mark.parametrize("status", [*range(200, 210), 301, 302, 304, *range(400, 420), 422, 429, *range(500, 512)])
def test_a_decline_counts_only_under_its_own_status(status):
    """A proxy that repeats an old body under another status has asked nobody."""
    assert isinstance(read_decision(Answer(status, DECLINE), REQUEST), Declined) is (status == 402)


def test_a_look_up_names_the_request_that_it_is_about(adapter, monkeypatch):
    sent = []

    class Wire:
        async def send(self, method, url, **request):
            sent.append((method, url, request["headers"], request["params"], request["deadline"]))
            return Answer(404, b'{"error": {"code": "charge_not_found", "message": "m"}}')

    monkeypatch.setattr(sandbox, "shared_transport", Wire)
    assert wait_for(adapter.look_up(REQUEST, deadline=2.0)) == NotFound()
    headers, params = {"X-Request-ID": "r"}, {"idempotency_key": "k:charge:1"}
    assert sent == [("GET", "http://gateway/v1/charges", headers, params, 2.0)]
