"""The magic payment methods, and what the sandbox refuses to charge."""

import json

import pytest

from payments.operations.wishes import DEFAULT_TEST_METHOD
from payments.serializers import PaymentRequestSerializer
from sandbox.behaviours import BEHAVIOURS, Behaviour, Trouble
from sandbox.charges import read_charge
from sandbox.replies import Refusal, of_trouble

CHARGE = {
    "payment_id": "p-1",
    "merchant": "shop",
    "order_id": None,
    "amount": 1000,
    "currency": "EUR",
    "payment_method": "pm_ok",
}


def read(**changes):
    return read_charge(json.dumps({**CHARGE, **changes}).encode())


def test_a_payment_that_names_no_method_is_simply_charged():
    assert BEHAVIOURS[DEFAULT_TEST_METHOD] == Behaviour()


def test_no_documented_payment_method_is_unknown_to_the_sandbox():
    examples = PaymentRequestSerializer._spectacular_annotation["examples"]
    documented = {example.value["payment_method"] for example in examples}
    assert documented
    assert documented <= BEHAVIOURS.keys()


@pytest.mark.parametrize("method", BEHAVIOURS)
def test_every_payment_method_can_be_charged(method):
    charge, read_method = read(payment_method=method)
    assert read_method == method
    assert charge == {name: value for name, value in CHARGE.items() if name != "payment_method"}


DOCUMENTED = {
    "pm_ok", "pm_declined", "pm_insufficient_funds", "pm_expired_card", "pm_flaky_2", "pm_down", "pm_rate_limited",
    "pm_timeout_charged", "pm_timeout_not_charged", "pm_reset", "pm_reset_before", "pm_reset_within", "pm_error_500",
    "pm_garbage", "pm_slow", "pm_duplicate_webhook",
}  # fmt: skip


def test_no_magic_payment_method_is_missing():
    assert BEHAVIOURS.keys() == DOCUMENTED


@pytest.mark.parametrize(
    ("method", "undecided"),
    [("pm_ok", 0), ("pm_flaky_2", 2), ("pm_rate_limited", 1), ("pm_timeout_not_charged", 1), ("pm_reset_before", 1)],
)
def test_only_the_first_requests_under_a_key_stay_undecided(method, undecided):
    behaviour = BEHAVIOURS[method]
    troubles = [behaviour.trouble_before(request) for request in range(1, 6)]
    assert troubles == [behaviour.before] * undecided + [None] * (5 - undecided)


def test_a_gateway_that_is_down_never_decides():
    assert BEHAVIOURS["pm_down"].trouble_before(10**9) == Trouble.UNAVAILABLE


def test_no_behaviour_is_in_trouble_both_before_and_after_its_decision():
    assert not [name for name, behaviour in BEHAVIOURS.items() if behaviour.before and behaviour.after]


def test_a_gateway_that_speaks_for_itself_says_when_to_come_back():
    reply = of_trouble(Trouble.RATE_LIMITED)
    assert (reply.status, reply.headers) == (429, {"Retry-After": "1"})
    assert reply.document["error"]["code"] == "rate_limited"
    assert of_trouble(Trouble.UNAVAILABLE).status == 503


def test_an_unknown_payment_method_is_refused_with_the_known_ones():
    with pytest.raises(Refusal, match=r"pm_ok, .*pm_down") as refusal:
        read(payment_method="pm_okay")
    assert (refusal.value.status, refusal.value.code) == (400, "payment_method_unknown")


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 0}, {"amount": -1}, {"amount": True}, {"amount": "1000"}, {"amount": 10.0}, {"amount": None},
        {"currency": None}, {"currency": 978}, {"payment_id": None}, {"merchant": 1}, {"order_id": 1},
        {"payment_method": None}, {"payment_method": []}, {"payment_method": {}},
    ],
)  # fmt: skip
def test_a_malformed_charge_is_refused(changes):
    with pytest.raises(Refusal) as refusal:
        read(**changes)
    assert refusal.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 60_000])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(Refusal) as refusal:
        read_charge(body)
    assert (refusal.value.status, refusal.value.code) == (400, "body_invalid")
