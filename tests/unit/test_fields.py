"""What the fields of a request let through, above all that no card number passes."""

from decimal import Decimal

import pytest
from rest_framework.exceptions import ErrorDetail, ValidationError

from merchants.models import Merchant
from payments.cards import has_card_number
from payments.fields import AmountField, CurrencyField
from payments.serializers import PaymentRequestSerializer

#: Test numbers that the card networks publish: 13 to 19 digits.
CARDS = {
    "visa, 13": "4222222222222",
    "diners, 14": "36227206271667",
    "amex, 15": "378282246310005",
    "visa, 16": "4242424242424242",
    "mastercard, 16": "5555555555554444",
    "discover, 16": "6011111111111117",
    "maestro, 19": "6304000000000000000",
}


def grouped(digits, separator):
    return separator.join(digits[start : start + 4] for start in range(0, len(digits), 4))


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
@pytest.mark.parametrize("separator", ["", " ", "-"])
def test_no_card_number_is_overlooked_in_one_run_or_in_groups(card, separator):
    written = grouped(card, separator)
    assert has_card_number(written)
    assert has_card_number(f"card {written}, thank you")
    assert has_card_number(f"({written})")


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242 12/27",
        "12 4242424242424242",
        "order 7: 4242424242424242-1",
        "4242424242424242 4242424242424242",
    ],
)
def test_a_card_number_is_not_hidden_by_a_number_beside_it(text):
    assert has_card_number(text)


@pytest.mark.parametrize(
    "digits", ["424242424242", "42424242424242424242"], ids=["12 digits that pass Luhn", "20 digits that pass Luhn"]
)
def test_runs_shorter_or_longer_than_a_card_number_are_let_through(digits):
    assert not has_card_number(digits)


@pytest.mark.parametrize("text", ["4242424242424241", "4242 4242 4242 4243", "1234567890123456", "378282246310006"])
def test_digits_that_fail_the_luhn_check_are_let_through(text):
    assert not has_card_number(text)


@pytest.mark.parametrize("longer", ["99994242424242424242", "42424242424242429999", "0000000000004242424242424242"])
def test_digits_inside_a_longer_run_are_no_card_number(longer):
    assert not has_card_number(longer)


@pytest.mark.parametrize(
    "text", ["", "pm_ok", "order 2026-11-21 for 100.50 EUR", "0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"]
)
def test_ordinary_text_is_let_through(text):
    assert not has_card_number(text)


@pytest.mark.parametrize(
    ("given", "amount"),
    [("10.00", Decimal("10.00")), ("7", Decimal(7)), (7, Decimal(7)), (Decimal("0.1"), Decimal("0.1"))],
)
def test_an_amount_is_read_exactly(given, amount):
    assert AmountField().run_validation(given) == amount


@pytest.mark.parametrize(
    "given",
    [
        "10,00", "1,000.00", "", " 10", "10 ", "+10", "-10", "1e2", "€10", "10 EUR", ".5", "5.", "0x10", "1_000", "NaN",
        "Infinity", "10\n", "1" * 21, True, False, [], [10], {}, {"value": 10}, 10.0,
        Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_no_amount(given):
    with pytest.raises(ValidationError) as refusal:
        AmountField().run_validation(given)
    assert refusal.value.detail == [ErrorDetail('An amount is a decimal number such as 10.00 or "10.00".', "invalid")]


@pytest.mark.parametrize("given", ["١٠", "１０", "१०.५"], ids=["Arabic", "full-width", "Devanagari"])
def test_digits_of_other_scripts_are_no_amount(given):
    """The documented pattern means the digits of ASCII, and so does every other reader of the message."""
    with pytest.raises(ValidationError):
        AmountField().run_validation(given)


@pytest.mark.parametrize("code", ["eur", "Eur", "XXX", "XAU", "EURO", "E", "€"])
def test_a_currency_that_nobody_is_charged_in_is_refused_by_name(code):
    with pytest.raises(ValidationError) as refusal:
        CurrencyField().run_validation(code)
    assert refusal.value.get_codes() == ["unknown"]
    assert refusal.value.detail[0].startswith(f"{code} is not a currency that we take")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_the_field_in_which_a_number_is_none_is_named(number):
    request = PaymentRequestSerializer(data={"amount": Decimal(number)}, context={"merchant": Merchant(currency="EUR")})
    assert not request.is_valid()
    assert list(request.errors) == ["amount"]
