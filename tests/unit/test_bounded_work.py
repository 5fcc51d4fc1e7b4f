"""A request is refused for its size before anything in it is looked at. Work is counted, not timed: see `make fuzz`."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError

from merchants.models import Merchant
from merchants.names import MAX_NAME_CHARACTERS
from merchants.strict import MAX_UNKNOWN_REPORTED
from merchants.throttling import name_in
from payments.batch_views import MOST, ItemsSerializer
from payments.cards import has_card_number
from payments.parsers import MAX_NUMBER_CHARACTERS, read_document
from payments.problems import MAX_FAULTS, ProblemFormatter
from payments.serializers import request_in

#: Calls of functions, far above what a refusal takes and far below one for each element.
FEW = 3_000
MERCHANT = Merchant(slug="shop", currency="EUR")


def calls_in(function):
    """How many functions are called, in Python and in C."""
    number = 0

    def count(_frame, event, _argument):
        nonlocal number
        number += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return number


def refusal(body):
    """The codes for which a payment is refused."""
    with pytest.raises(ValidationError) as refused:
        request_in({"amount": "1.00", **body}, merchant=MERCHANT)
    return refused.value.get_codes()


HOSTILE = {
    "a description of digits": ({"description": "1 " * 30_000}, {"description": ["max_length"]}),
    "a payment method of digits": ({"payment_method": "1 " * 30_000}, {"payment_method": ["max_length"]}),
    "a value of digits": ({"metadata": {"a": "1 " * 30_000}}, {"metadata": {"a": ["max_length"]}}),
    "pairs": ({"metadata": {f"k{n}": "1 1 1" for n in range(7_000)}}, {"metadata": ["too_many"]}),
    "pairs that are wrong": ({"metadata": {f"k{n}": n for n in range(7_000)}}, {"metadata": ["too_many"]}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_too_long_is_not_searched(what):
    body, codes = HOSTILE[what]
    refusal({"currency": "x"})  # what is done once in each process
    assert calls_in(lambda: refusal(body)) < FEW
    assert refusal(body) == codes


def test_unknown_fields_are_not_all_named():
    body = {f"f{number:05}": 0 for number in range(7_000)}
    assert list(refusal(body)) == [f"f{number:05}" for number in range(MAX_UNKNOWN_REPORTED)]
    assert calls_in(lambda: refusal(body)) < FEW


@pytest.mark.parametrize("element", [{}, 1, {"amount": "1.00"}])
def test_a_batch_is_counted_before_its_payments_are_looked_at(element):
    body = {"payments": [element] * 100_000}
    serializer = ItemsSerializer(data=body)
    assert calls_in(serializer.is_valid) < FEW
    assert [fault.code for fault in serializer.errors["payments"]] == ["max_length"]


def test_the_search_for_card_numbers_takes_time_in_proportion():
    """Ones pass the Luhn check at no length, so that the search goes on to the end."""
    short, long = (calls_in(lambda: has_card_number("1 " * number)) for number in (2_000, 8_000))  # noqa: B023 -- at once
    assert long < 4.5 * short
    assert short < 2_000 * 20


def test_ordinary_text_is_not_searched_digit_by_digit():
    assert calls_in(lambda: has_card_number("order 4711 of 2026-11-21 for 100.50 EUR " * 25)) < 500


def test_a_name_that_nobody_can_have_is_not_normalized():
    """That takes time in proportion to the square of its length, and anyone may ask for it."""
    assert name_in({"username": "\uff21" * MAX_NAME_CHARACTERS}) == "a" * MAX_NAME_CHARACTERS
    assert name_in({"username": "\uff21" * (MAX_NAME_CHARACTERS + 1)}) == ""


@pytest.mark.parametrize("number", ["1." + "0" * MAX_NUMBER_CHARACTERS, "1" * MAX_NUMBER_CHARACTERS + "e1"])
def test_a_number_with_more_digits_than_any_amount_is_not_computed_with(number):
    with pytest.raises(ParseError, match="digits"):
        read_document(f'{{"amount": {number}}}'.encode())
    assert read_document(f'{{"amount": {number[: MAX_NUMBER_CHARACTERS - 2]}0}}'.encode())


def test_a_problem_does_not_list_more_faults_than_can_be_read():
    faults = ValidationError({f"f{number}": ["x"] for number in range(1_000)})
    assert len(ProblemFormatter(faults, {"request": None}, faults).run()["errors"]) == MAX_FAULTS


DOCUMENT = yaml.safe_load((Path(settings.BASE_DIR) / "openapi.yaml").read_text())


def arrays_in(schema, path):
    """Every list that a body may hold."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from arrays_in(DOCUMENT["components"]["schemas"][name], name)
    if schema.get("type") == "array":
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from arrays_in(inner, f"{path}.{name}")
    if "items" in schema:
        yield from arrays_in(schema["items"], path)


def test_no_list_that_may_be_sent_is_without_a_limit():
    found = [
        (path, schema)
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for path, schema in arrays_in(content["schema"], "")
    ]
    assert len(found) > 5
    assert [path for path, schema in found if "maxItems" not in schema] == []


def test_the_largest_batch_that_is_read_has_room_for_all_its_payments():
    assert len(json.dumps({"amount": "1.00", "idempotency_key": "k" * 36})) * MOST < settings.MAX_BATCH_BYTES
