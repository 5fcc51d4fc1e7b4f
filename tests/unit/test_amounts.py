"""An amount that is shown is the amount that was charged, in the reader's own way of writing it."""

import re

import pytest

from notifications.amounts import format_amount, told_amount
from payments.money import EXPONENTS, MAX_MINOR_UNITS, to_major_units
from tests.notices import notice


@pytest.mark.parametrize(
    ("amount", "currency", "english", "german"),
    [
        ("1234.50", "EUR", "€1,234.50", "1.234,50\xa0€"),
        ("0.05", "EUR", "€0.05", "0,05\xa0€"),
        ("1000", "JPY", "¥1,000", "1.000\xa0¥"),
        ("1.234", "BHD", "BHD\xa01.234", "1,234\xa0BHD"),
        ("10.00", "CHF", "CHF\xa010.00", "10,00\xa0CHF"),
        ("1000000.00", "USD", "$1,000,000.00", "1.000.000,00\xa0$"),
        ("5000.00", "HUF", "HUF\xa05,000.00", "5.000,00\xa0HUF"),
    ],
)
def test_money_is_never_written_as_another_language_does(amount, currency, english, german):
    assert format_amount(amount, currency, language="en") == english
    assert format_amount(amount, currency, language="de") == german


@pytest.mark.parametrize("by_code", [False, True])
@pytest.mark.parametrize(("language", "comma"), [("en", "."), ("de", ",")])
@pytest.mark.parametrize("currency", EXPONENTS)
def test_no_currency_loses_or_gains_decimals(currency, language, comma, by_code):
    for minor in (1, MAX_MINOR_UNITS):
        told = format_amount(to_major_units(minor, currency), currency, language=language, by_code=by_code)
        digits = re.search(r"[0-9][0-9.,]*", told)[0]
        assert len(digits.partition(comma)[2]) == EXPONENTS[currency]
        assert int(re.sub("[^0-9]", "", digits)) == minor
        assert not by_code or currency in told


def test_a_partial_capture_is_not_told_as_the_whole_amount():
    assert told_amount(notice(data={"amount_captured": "1000.00"})) == "€1,000.00"
    assert told_amount(notice("payment.authorized")) == "€1,234.50"
