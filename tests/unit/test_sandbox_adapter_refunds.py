"""What the adapter makes of the sandbox's list of charges and of its answers to refunds: doubt is never proof."""

import json

import pytest

from payments.gateways.base import ListFailed, OutcomeUnknown, Refunded, RefundRefused, RefundRequest, Unavailable
from payments.gateways.sandbox_refunds import read_page, read_refund_answer
from payments.gateways.transport import Answer

REQUEST = RefundRequest(key="r-1", reference="ch_1", amount=1000, currency="EUR", request_id="r")
REFUND = {"id": "re_1", "status": "succeeded", "charge": "ch_1", "amount": 1000, "currency": "EUR"}
CHARGE = {
    "id": "ch_1", "status": "approved", "idempotency_key": "k", "payment_id": "p-1", "merchant": "shop",
    "order_id": None, "amount": 1000, "currency": "EUR", "created_at": "2026-12-01T12:00:00.000000Z",
}  # fmt: skip


def answer(status, document):
    return Answer(status, document if isinstance(document, bytes) else json.dumps(document).encode())


def error(code):
    return {"error": {"code": code, "message": "m"}}


def test_a_refund_of_this_very_charge_is_refunded():
    assert read_refund_answer(answer(200, REFUND), REQUEST) == Refunded(reference="re_1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 999}, {"amount": "1000"}, {"amount": None}, {"currency": "USD"}, {"charge": "ch_2"},
        {"charge": None}, {"status": "pending"}, {"status": None}, {"id": ""}, {"id": 7},
        {"amount": 1000.0},
    ],
)  # fmt: skip
def test_a_refund_of_anything_else_proves_nothing(wrong):
    assert isinstance(read_refund_answer(answer(200, {**REFUND, **wrong}), REQUEST), OutcomeUnknown)


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_request_that_was_not_taken_may_be_sent_again(status):
    assert isinstance(read_refund_answer(answer(status, error("x")), REQUEST), Unavailable)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "amount_too_large"), (402, "refund_declined"), (404, "charge_not_found")]
)
def test_a_refusal_in_the_gateways_own_format_is_one(status, code):
    assert read_refund_answer(answer(status, error(code)), REQUEST) == RefundRefused(code=code, detail="m")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 503])
@pytest.mark.parametrize("code", [7, True, ["code"], {"a": "b"}])
def test_a_code_that_is_no_text_proves_nothing(status, code):
    assert isinstance(read_refund_answer(answer(status, error(code)), REQUEST), OutcomeUnknown)


@pytest.mark.parametrize("status", [200, 201, 302, 400, 402, 404, 409, 422, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}'])
def test_an_answer_that_is_not_the_gateways_own_proves_nothing(status, body):
    assert isinstance(read_refund_answer(answer(status, body), REQUEST), OutcomeUnknown)


@pytest.mark.parametrize("status", [409, 422, 500])
def test_a_key_at_work_or_used_proves_nothing(status):
    assert isinstance(read_refund_answer(answer(status, error("idempotency_key_reused")), REQUEST), OutcomeUnknown)


def page(*charges, more=False, cursor=None):
    return answer(200, {"data": list(charges), "has_more": more, "next_cursor": cursor})


def test_a_page_is_read_with_its_cursor():
    read = read_page(page(CHARGE, {**CHARGE, "id": "ch_2", "status": "declined"}, more=True, cursor="2"))
    assert [(one.reference, one.approved) for one in read.charges] == [("ch_1", True), ("ch_2", False)]
    assert read.next_cursor == "2"
    assert read.charges[0].charged_at.isoformat() == "2026-12-01T12:00:00+00:00"
    assert read.charges[0].order_id == ""
    assert read_page(page()).next_cursor is None


@pytest.mark.parametrize(
    "wrong", [{"id": None}, {"id": ""}, {"amount": "1"}, {"amount": 1.5}, {"currency": "EURO"}, {"status": "?"}]
)
def test_a_charge_that_cannot_be_read_fails_its_page(wrong):
    with pytest.raises(ListFailed):
        read_page(page(CHARGE, {**CHARGE, **wrong}))


@pytest.mark.parametrize(
    "bad",
    [
        answer(500, b"<html>"), answer(503, error("unavailable")), answer(200, b"[]"), answer(200, {"data": []}),
        answer(200, {"data": {}, "has_more": False}), page(7), page(CHARGE, more=True),
        page(CHARGE, more=True, cursor=""), answer(404, {"data": [], "has_more": False}),
    ],
)  # fmt: skip
def test_a_page_that_is_none_fails(bad):
    with pytest.raises(ListFailed):
        read_page(bad)


def test_a_charge_without_a_time_is_listed():
    assert read_page(page({**CHARGE, "created_at": None})).charges[0].charged_at is None
