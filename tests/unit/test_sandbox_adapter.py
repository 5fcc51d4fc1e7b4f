"""What each answer of the sandbox gateway proves: a definite outcome only where no doubt is left."""

import json
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from payments.gateways import sandbox
from payments.gateways.base import (
    Approved,
    ChargeRequest,
    ConflictingCharge,
    Declined,
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unavailable,
)
from payments.gateways.sandbox import SandboxGateway, read_answer
from payments.gateways.transport import Answer, NoAnswer, NotSent
from sandbox.behaviours import BEHAVIOURS
from tests.claiming import wait_for

REQUEST = ChargeRequest(
    key="k:charge:1",
    payment_id=UUID("0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"),
    merchant="shop",
    order_id="o-1",
    amount=1000,
    currency="EUR",
    payment_method="pm_ok",
    request_id="r",
)
APPROVAL = {
    "id": "ch_00000001",
    "status": "approved",
    "payment_id": str(REQUEST.payment_id),
    "amount": 1000,
    "currency": "EUR",
}
DECLINE = {"code": "declined", "decline_code": "card_declined", "charge": "ch_2", "message": "The charge was declined."}


def read(status, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_answer(Answer(status, body), REQUEST)


def error(code):
    return {"error": {"code": code, "message": "Told in the gateway's own format."}}


def test_an_approval_of_this_very_charge_is_approved():
    assert read(200, APPROVAL) == Approved(reference="ch_00000001")


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 1001}, {"amount": "1000"}, {"amount": None}, {"amount": 100_000},
        {"currency": "USD"}, {"currency": "eur"}, {"currency": None},
        {"payment_id": "0190a6f0-7b1c-7d57-9e1b-000000000000"}, {"payment_id": None},
        {"status": "pending"}, {"status": "declined"}, {"status": None},
        {"id": ""}, {"id": None}, {"id": 7}, {"id": True}, {"id": ["ch_1"]}, {"id": {"a": "b"}}, {"amount": 1000.0},
    ],
)  # fmt: skip
def test_an_approval_of_anything_else_is_never_taken_for_ours(wrong):
    assert isinstance(read(200, {**APPROVAL, **wrong}), OutcomeUnknown)


@pytest.mark.parametrize("name", APPROVAL)
def test_an_approval_that_leaves_something_out_is_never_an_approval(name):
    assert isinstance(read(200, {key: value for key, value in APPROVAL.items() if key != name}), OutcomeUnknown)


@pytest.mark.parametrize(
    "body", [b"<html>OK</html>", b"", b"[]", b"null", b'"approved"', b"\xff", b"{", b"[" * 100_000, b"9" * 5000]
)
@pytest.mark.parametrize("status", [200, 402, 503])
def test_a_body_that_is_no_json_object_proves_nothing(status, body):
    assert isinstance(read(status, body), OutcomeUnknown)


def test_a_decline_is_definite_and_keeps_its_reason():
    assert read(402, {"error": DECLINE}) == Declined(
        decline_code="card_declined", detail="The charge was declined.", reference="ch_2"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"error": {**DECLINE, "decline_code": ""}},
        {"error": {**DECLINE, "decline_code": None}},
        {"error": {"code": "declined"}},
        {"error": {**DECLINE, "decline_code": 7}},
        {"error": {**DECLINE, "decline_code": ["card_declined"]}},
        {"error": {**DECLINE, "decline_code": True}},
        {"error": {**DECLINE, "code": "payment_required"}},
        {"error": "declined"},
        {"error": [DECLINE]},
        DECLINE,
        {},
    ],
)
def test_a_402_without_a_decline_code_is_never_a_decline(document):
    assert isinstance(read(402, document), OutcomeUnknown)


def test_a_decline_under_a_status_of_success_is_never_a_decline():
    assert isinstance(read(200, {"error": DECLINE}), OutcomeUnknown)


def test_a_rejected_request_is_not_a_declined_charge():
    assert read(400, error("payment_method_unknown")) == RequestRejected(
        code="payment_method_unknown", detail=error("payment_method_unknown")["error"]["message"]
    )


def test_a_charge_under_our_key_is_ours_whichever_payment_it_names():
    """The database has lost the payment that the charge was made for, and the client repeated its request."""
    charge = {**APPROVAL, "payment_id": str(uuid4()), "idempotency_key": REQUEST.key}
    assert read(200, charge) == Approved(reference=APPROVAL["id"])


@pytest.mark.parametrize("key", ["other:charge:1", "", 7, False, ["k:charge:1"]])
def test_a_charge_under_another_key_is_never_ours(key):
    assert isinstance(read(200, {**APPROVAL, "idempotency_key": key}), OutcomeUnknown)


def test_a_charge_under_our_key_of_another_amount_is_evidence_and_no_approval():
    charge = {**APPROVAL, "idempotency_key": REQUEST.key, "amount": APPROVAL["amount"] + 1}
    conflict = ConflictingCharge(
        reference=APPROVAL["id"],
        amount=APPROVAL["amount"] + 1,
        currency=APPROVAL["currency"],
        payment_id=APPROVAL["payment_id"],
    )
    assert read(200, charge) == OutcomeUnknown(
        detail="HTTP 200 with another charge than the requested one", conflict=conflict
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 503])
@pytest.mark.parametrize("code", [7, True, ["code"], {"a": "b"}, None, ""])
def test_a_code_that_is_no_text_proves_nothing(status, code):
    assert isinstance(read(status, {"error": {"code": code, "message": "m"}}), OutcomeUnknown)


def test_what_is_no_text_is_not_shown_as_if_it_were():
    declined = read(402, {"error": {**DECLINE, "message": None, "charge": {"id": "ch_2"}}})
    assert (declined.detail, declined.reference) == ("", "")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_refusal_in_the_gateways_own_words_proves_that_nothing_was_taken(status):
    assert read(status, error("some_code")) == Unavailable(detail=f"HTTP {status} some_code")


def read_refusal(status, headers, document=None):
    return read_answer(Answer(status, json.dumps(document or error("some_code")).encode(), headers), REQUEST)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1.0), ("0", 0.0), ("007", 7.0), (" 30 ", 30.0), ("3600", 3600.0), ("86400", 3600.0)]
)
def test_a_gateway_that_asks_for_time_is_never_called_at_once(status, text, seconds):
    assert read_refusal(status, {"retry-after": text}).retry_after == seconds


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", "+1", "1e3", "soon", "1, 2", "٣", "9" * 5000, "nan", "Sat, 21 Nov 2026 07:28:00 GMT"],
)
def test_a_time_that_is_not_in_whole_seconds_is_ignored(text):
    assert read_refusal(503, {"retry-after": text}) == Unavailable(detail="HTTP 503 some_code")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_no_other_refusal_is_put_off(status):
    assert read_refusal(status, {"retry-after": "60"}).retry_after is None


def test_a_proxy_that_asks_for_time_does_not_make_a_doubtful_answer_certain():
    assert isinstance(read_refusal(503, {"retry-after": "60"}, document={"message": "no"}), OutcomeUnknown)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 503])
@pytest.mark.parametrize("document", [b"<html>Service Unavailable</html>", b"", {}, {"error": {}}, {"error": "down"}])
def test_a_refusal_in_anybody_elses_words_proves_nothing(status, document):
    """A proxy in between says 503 too, and knows not what became of the request."""
    assert isinstance(read(status, document), OutcomeUnknown)


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 304, 408, 409, 418, 499, 500, 501, 502, 504, 520])
@pytest.mark.parametrize("document", [error("some_code"), APPROVAL, b""])
def test_any_other_status_proves_nothing_whatever_its_body(status, document):
    assert isinstance(read(status, document), OutcomeUnknown)


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (200, {**APPROVAL, "id": "ch\x00" + "1" * 1000}),
        (402, {"error": {**DECLINE, "decline_code": "\x00" + "c" * 1000, "message": "\ud800" * 1000}}),
        (402, {"error": {**DECLINE, "charge": "\udc00\x00" + "r" * 1000}}),
        (503, error("down\x00\ud800" + "d" * 1000)),
    ],
    ids=["reference", "decline", "reference of a decline", "unavailable"],
)
def test_no_answer_holds_text_that_its_columns_cannot_take(status, document):
    """PostgreSQL takes no NUL and no lone surrogate; such an answer could be recorded never, and looked up for ever."""
    answer = read(status, document)
    limits = {"reference": 255, "decline_code": 50, "detail": 500}
    texts = {name: getattr(answer, name) for name in limits if hasattr(answer, name)}
    for name, text in texts.items():
        assert len(text) <= limits[name]
        assert "\x00" not in text
        assert text.encode()


class Wire:
    """Stands in for the network: one answer, or one failure, for whatever is sent."""

    def __init__(self, result):
        self.result = result
        self.sent = []

    async def send(self, method, url, **request):
        self.sent.append((method, url, request))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def on_wire(monkeypatch):
    def do(result):
        wire = Wire(result)
        monkeypatch.setattr(sandbox, "shared_transport", lambda: wire)
        return wire

    return do


def test_a_charge_carries_its_key_and_every_term_of_the_payment(on_wire):
    wire = on_wire(Answer(200, json.dumps(APPROVAL).encode()))
    assert isinstance(wait_for(SandboxGateway("http://gateway").charge(REQUEST, deadline=2.0)), Approved)
    (method, url, request), *more = wire.sent
    assert not more
    assert (method, url, request["deadline"]) == ("POST", "http://gateway/v1/charges", 2.0)
    assert request["headers"] == {"Idempotency-Key": "k:charge:1", "X-Request-ID": "r"}
    assert request["json"] == {
        "payment_id": str(REQUEST.payment_id), "merchant": "shop", "order_id": "o-1", "amount": 1000,
        "currency": "EUR", "payment_method": "pm_ok",
    }  # fmt: skip


@pytest.mark.parametrize(("failure", "proof"), [(NotSent("refused"), Unavailable), (NoAnswer("reset"), OutcomeUnknown)])
def test_a_charge_that_may_have_arrived_is_never_called_unavailable(on_wire, failure, proof):
    on_wire(failure)
    assert wait_for(SandboxGateway("http://gateway").charge(REQUEST, deadline=2.0)) == proof(detail=str(failure))


@pytest.mark.parametrize("failure", [NotSent("refused"), NoAnswer("reset")])
def test_a_look_up_that_did_not_get_through_never_finds_nothing(on_wire, failure):
    on_wire(failure)
    answer = wait_for(SandboxGateway("http://gateway").look_up(REQUEST, deadline=2.0))
    assert answer == OutcomeUnknown(detail=str(failure))


def test_a_look_up_asks_by_the_key_and_charges_nothing(on_wire):
    wire = on_wire(Answer(404, json.dumps(error("charge_not_found")).encode()))
    assert wait_for(SandboxGateway("http://gateway").look_up(REQUEST, deadline=2.0)) == NotFound()
    (method, _, request), *more = wire.sent
    assert not more
    assert (method, request["params"]) == ("GET", {"idempotency_key": "k:charge:1"})


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"<html>Not Found</html>"),
        Answer(404, b""),
        Answer(404, json.dumps(error("no_such_address")).encode()),
        Answer(200, json.dumps(error("charge_not_found")).encode()),
        Answer(503, json.dumps(error("charge_not_found")).encode()),
    ],
)
def test_only_the_gateways_own_word_is_a_not_found(on_wire, answer):
    on_wire(answer)
    assert not isinstance(
        wait_for(SandboxGateway("http://gateway").look_up(REQUEST, deadline=2.0)), NotFound | Approved | Declined
    )


# --- the whole way: the real transport against the real gateway

ENDINGS = {
    "pm_ok": (Approved,),
    "pm_declined": (Declined,),
    "pm_insufficient_funds": (Declined,),
    "pm_expired_card": (Declined,),
    "pm_flaky_2": (Unavailable, Unavailable, Approved),
    "pm_down": (Unavailable, Unavailable, Unavailable),
    "pm_rate_limited": (Unavailable, Approved),
    "pm_timeout_charged": (OutcomeUnknown,),
    "pm_timeout_not_charged": (OutcomeUnknown, Approved),
    "pm_reset": (OutcomeUnknown,),
    "pm_reset_before": (OutcomeUnknown, Approved),
    "pm_reset_within": (OutcomeUnknown,),
    "pm_error_500": (OutcomeUnknown,),
    "pm_garbage": (OutcomeUnknown,),
    "pm_slow": (Approved,),
    "pm_duplicate_webhook": (Approved,),
}
NOT_CHARGED = {"pm_declined", "pm_insufficient_funds", "pm_expired_card", "pm_down"}


@pytest.mark.parametrize("method", BEHAVIOURS)
def test_no_magic_payment_method_proves_more_or_less_than_it_did(sandbox, method):
    sandbox.server.pause = lambda _seconds: None
    gateway = SandboxGateway(sandbox.url)
    request = replace(REQUEST, payment_method=method)
    answers = [wait_for(gateway.charge(request, deadline=10.0)) for _ in ENDINGS[method]]
    assert tuple(map(type, answers)) == ENDINGS[method]
    assert len(sandbox.charges()) == (method not in NOT_CHARGED)
    found = {"pm_down": NotFound}.get(method, Declined if method in NOT_CHARGED else Approved)
    assert type(wait_for(gateway.look_up(request, deadline=10.0))) is found


def test_a_limited_rate_says_when_to_come_back(sandbox):
    request = replace(REQUEST, payment_method="pm_rate_limited")
    answer = wait_for(SandboxGateway(sandbox.url).charge(request, deadline=10.0))
    assert answer == Unavailable(detail="HTTP 429 rate_limited", retry_after=1.0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
def test_a_look_up_that_is_refused_says_nothing_of_the_charge(on_wire, status):
    """A gateway that calls our question wrong has not declined the payment."""
    on_wire(Answer(status, json.dumps(error("api_version_retired")).encode()))
    assert isinstance(wait_for(SandboxGateway("http://gateway").look_up(REQUEST, deadline=2.0)), OutcomeUnknown)
