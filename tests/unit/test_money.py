"""Amounts are exact, whatever their size and however they are written."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from payments.money import EXPONENTS, MAX_MINOR_UNITS, OutOfRange, TooManyDecimals, to_major_units, to_minor_units


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1000", "JPY", 1000),
        ("1", "JPY", 1),
        ("10", "EUR", 1000),
        ("10.5", "EUR", 1050),
        ("0.01", "EUR", 1),
        ("10.05", "KWD", 10_050),
        ("0.001", "KWD", 1),
        ("1E+2", "EUR", 10_000),
    ],
)
def test_minor_units_follow_the_decimals_of_the_currency(amount, currency, minor):
    assert to_minor_units(Decimal(amount), currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency"), [("0.5", "JPY"), ("0.001", "EUR"), ("10.005", "EUR"), ("1.0001", "KWD")]
)
def test_an_amount_finer_than_its_currency_is_never_rounded(amount, currency):
    with pytest.raises(TooManyDecimals):
        to_minor_units(Decimal(amount), currency)


@pytest.mark.parametrize("amount", ["10.000000000000000000000000000000001", "1000000000.00000000000000000001"])
def test_decimals_beyond_the_precision_of_decimal_arithmetic_are_never_rounded_away(amount):
    """Python's decimal context keeps 28 digits; these have more."""
    with pytest.raises(TooManyDecimals):
        to_minor_units(Decimal(amount), "EUR")


@pytest.mark.parametrize(("amount", "currency"), [("10.000", "JPY"), ("10.00000", "EUR"), ("10.0" + "0" * 60, "KWD")])
def test_trailing_zeros_are_no_decimals(amount, currency):
    assert to_minor_units(Decimal(amount), currency) == to_minor_units(Decimal(10), currency)


@pytest.mark.parametrize("amount", ["0", "0.00", "-0", "-1", "-0.01", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_not_above_zero_or_no_number_is_out_of_range(amount):
    with pytest.raises(OutOfRange):
        to_minor_units(Decimal(amount), "EUR")


@pytest.mark.parametrize("currency", ["JPY", "EUR", "KWD"])
def test_the_largest_amount_is_taken_and_one_unit_more_is_not(currency):
    largest = Decimal(MAX_MINOR_UNITS).scaleb(-EXPONENTS[currency])
    assert to_minor_units(largest, currency) == MAX_MINOR_UNITS
    with pytest.raises(OutOfRange):
        to_minor_units(largest + Decimal(1).scaleb(-EXPONENTS[currency]), currency)


# Were one of these written out, the test would not end: it would have to hold that many digits.
@pytest.mark.parametrize(
    ("amount", "refusal"),
    [
        ("1e400000", OutOfRange),
        ("1e999999999999999", OutOfRange),
        ("1e-400000", TooManyDecimals),
        ("1e-999999999999999", TooManyDecimals),
        ("0e999999999999999", OutOfRange),
        ("-1e999999999999999", OutOfRange),
    ],
)
def test_a_huge_exponent_is_refused_without_being_written_out(amount, refusal):
    with pytest.raises(refusal):
        to_minor_units(Decimal(amount), "EUR")


@given(minor=st.integers(1, MAX_MINOR_UNITS), currency=st.sampled_from(sorted(EXPONENTS)))
@example(minor=MAX_MINOR_UNITS, currency="KWD")
def test_no_amount_changes_on_its_way_out_and_in_again(minor, currency):
    written = to_major_units(minor, currency)
    assert to_minor_units(Decimal(written), currency) == minor
    assert "E" not in written
    assert len(written.partition(".")[2]) == EXPONENTS[currency]


@given(amount=st.decimals(allow_nan=True, allow_infinity=True), currency=st.sampled_from(["JPY", "EUR", "KWD"]))
def test_any_decimal_is_taken_exactly_or_refused(amount, currency):
    try:
        minor = to_minor_units(amount, currency)
    except (TooManyDecimals, OutOfRange):
        return
    assert 0 < minor <= MAX_MINOR_UNITS
    assert Decimal(to_major_units(minor, currency)) == amount


@pytest.mark.parametrize(
    ("minor", "currency", "written"),
    [(1000, "JPY", "1000"), (1000, "EUR", "10.00"), (5, "EUR", "0.05"), (1, "KWD", "0.001"), (0, "EUR", "0.00")],
)
def test_major_units_show_all_decimals_of_the_currency(minor, currency, written):
    assert to_major_units(minor, currency) == written
