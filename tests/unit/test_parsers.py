"""A body has one meaning or none, and no body can do harm by being read."""

import io
from decimal import Decimal

import pytest
from django.conf import settings
from rest_framework.exceptions import ParseError

from payments.parsers import BodyTooLarge, ExactJSONParser


def parse(body):
    return ExactJSONParser().parse(io.BytesIO(body))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (b"0.1", "0.1"),
        (b"10.00", "10.00"),
        (b"1e2", "1E+2"),
        (b"123456789012345678.123456789012345678", "123456789012345678.123456789012345678"),
    ],
)
def test_a_fraction_is_never_a_float(written, number):
    parsed = parse(b'{"amount": ' + written + b"}")["amount"]
    assert isinstance(parsed, Decimal)
    assert str(parsed) == number


def test_a_whole_number_stays_whole():
    parsed = parse(b'{"amount": 9007199254740993}')["amount"]
    assert (type(parsed), parsed) == (int, 9007199254740993)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_is_left_to_its_field_to_name(number):
    assert not parse(b'{"amount": ' + number + b"}")["amount"].is_finite()


@pytest.mark.parametrize(
    "body", [b'{"amount": 1, "amount": 2}', b'{"a": 1, "a": 1}', b'{"metadata": {"a": 1, "a": 2}}']
)
def test_a_name_that_stands_twice_is_refused(body):
    with pytest.raises(ParseError, match="same name twice"):
        parse(body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{'a': 1}", b"{} {}", b'{"a": 1,}', b"\xef\xbb\xbf{}", b"amount=1", b'{"a": 01}']
)
def test_what_is_not_json_is_refused(body):
    with pytest.raises(ParseError, match="not valid JSON"):
        parse(body)


@pytest.mark.parametrize("body", [b'"\xff"', b'{"a": "\xed\xa0\x80"}', '{"a": 1}'.encode("utf-16")])
def test_what_is_not_utf_8_is_refused(body):
    with pytest.raises(ParseError, match="not UTF-8"):
        parse(body)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_body_nested_as_deep_as_it_is_long_is_refused(opening):
    bomb = opening * (settings.MAX_BODY_BYTES // len(opening))
    with pytest.raises(ParseError, match="nested too deeply"):
        parse(bomb)


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e99999999999999999999", b"1e-99999999999999999999"])
def test_a_number_beyond_all_measure_is_refused_in_words_for_people(number):
    with pytest.raises(ParseError) as refusal:
        parse(b'{"amount": ' + number + b"}")
    assert "decimal." not in str(refusal.value)
    assert "sys." not in str(refusal.value)


def test_a_body_of_exactly_the_limit_is_read():
    padding = b" " * (settings.MAX_BODY_BYTES - 2)
    assert parse(b"{" + padding + b"}") == {}


def test_a_body_over_the_limit_is_refused_and_not_read_to_its_end():
    stream = io.BytesIO(b"{" + b" " * 10 * settings.MAX_BODY_BYTES + b"}")
    with pytest.raises(BodyTooLarge, match=f"larger than {settings.MAX_BODY_BYTES} bytes"):
        ExactJSONParser().parse(stream)
    assert stream.tell() == settings.MAX_BODY_BYTES + 1
