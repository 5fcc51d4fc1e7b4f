"""The magic payment methods, and what the sandbox refuses to charge."""

import json

import pytest

from payments.operations.accept import DEFAULT_TEST_METHOD
from payments.serializers import PaymentRequestSerializer
from sandbox.behaviours import BEHAVIOURS, Behaviour
from sandbox.server import Refusal, read_charge

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
    charge, behaviour = read(payment_method=method)
    assert behaviour is BEHAVIOURS[method]
    assert charge == {name: value for name, value in CHARGE.items() if name != "payment_method"}


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
