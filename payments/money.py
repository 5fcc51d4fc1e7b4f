"""Money: integers in minor units, and the ISO 4217 table that says how many decimals a currency has."""

from decimal import Decimal
from typing import Final

# ISO 4217, list one, as published by SIX. Funds codes, metals and testing codes are left out: nobody is
# charged in them. https://www.six-group.com/en/products-services/financial-information/data-standards.html
_NO_DECIMALS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_TWO_DECIMALS: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
    CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
    JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD
    NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN
    SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_THREE_DECIMALS: Final = "BHD IQD JOD KWD LYD OMR TND"

#: Decimals by currency code.
EXPONENTS: Final[dict[str, int]] = {
    code: decimals
    for decimals, codes in ((0, _NO_DECIMALS), (2, _TWO_DECIMALS), (3, _THREE_DECIMALS))
    for code in codes.split()
}

#: Twelve digits: what the amount field of a card message carries (ISO 8583, field 4).
MAX_MINOR_UNITS: Final = 999_999_999_999


class TooManyDecimals(ValueError):
    """The amount has more decimals than its currency."""


class OutOfRange(ValueError):
    """The amount is not above zero, or has more digits than a card message carries."""


def to_minor_units(amount: Decimal, currency: str) -> int:
    """Exact minor units of an amount in major units; trailing zeros do not count as decimals.

    Raises:
        TooManyDecimals, OutOfRange: see there.
    """
    exponent = EXPONENTS[currency]
    # The range first: scaling 1e999999 would fill the memory.
    if not amount.is_finite() or amount <= 0 or amount.adjusted() + exponent >= len(str(MAX_MINOR_UNITS)):
        raise OutOfRange
    if amount.adjusted() < -exponent:
        raise TooManyDecimals
    # As a fraction, because Decimal's own arithmetic rounds to 28 digits.
    numerator, denominator = amount.as_integer_ratio()
    scale: int = 10**exponent
    minor, rest = divmod(numerator * scale, denominator)
    if rest:
        raise TooManyDecimals
    return minor


def to_major_units(minor: int, currency: str) -> str:
    """The amount as people write it, with all decimals of its currency: `10.00`, `1000` for JPY."""
    return str(Decimal(minor).scaleb(-EXPONENTS[currency]).quantize(Decimal(1).scaleb(-EXPONENTS[currency])))
