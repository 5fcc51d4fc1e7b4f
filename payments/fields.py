"""Serializer fields for money, codes and free text, with errors that say the mend."""

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any, ClassVar, Final

import phonenumbers
from django.conf import settings
from django.utils.module_loading import import_string
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from payments.money import EXPONENTS

#: Plain decimal notation. A comma, a sign, an exponent or a currency symbol in a string is a guess too many.
DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
#: Digits in one run, or in groups with a space or a hyphen between them, as on a card.
DIGIT_GROUPS: Final = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
#: How many digits card numbers have (ISO/IEC 7812-1).
CARD_LENGTHS: Final = range(13, 20)
#: Twice a digit, and the digits of that added up.
DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@extend_schema_field(
    {"oneOf": [{"type": "string", "pattern": r"^\d+(\.\d+)?$"}, {"type": "number"}], "example": "10.00"}
)
class AmountField(serializers.Field[Decimal, Any, str, Any]):
    """A decimal amount in major units, as a string or a JSON number, read exactly."""

    default_error_messages: ClassVar = {
        "invalid": 'An amount is a decimal number such as 10.00 or "10.00".',
    }

    def to_internal_value(self, data: Any) -> Decimal:
        """The exact amount; its range and decimals depend on the currency and are checked with it."""
        if isinstance(data, bool) or not isinstance(data, str | int | Decimal):
            self.fail("invalid")
        if isinstance(data, str) and not DECIMAL.fullmatch(data):
            self.fail("invalid")
        amount = Decimal(data)
        if not amount.is_finite():
            self.fail("invalid")
        return amount

    def to_representation(self, value: Decimal) -> str:
        """The amount as a string."""
        return str(value)


@extend_schema_field(OpenApiTypes.STR)
class CurrencyField(serializers.CharField):
    """An ISO 4217 code in capital letters."""

    default_error_messages: ClassVar = {
        "unknown": "{code} is not a currency that we take; use an ISO 4217 code in capital letters, such as EUR.",
    }

    def to_internal_value(self, data: Any) -> str:
        """The code, if payments can be made in it."""
        code = super().to_internal_value(data)
        if code not in EXPONENTS:
            self.fail("unknown", code=code[:10])
        return code


class CardFreeCharField(serializers.CharField):
    """Text in which no card number is accepted: we must never hold one (PCI DSS 3.2)."""

    default_error_messages: ClassVar = {
        "invalid": "This must be a string: put it in double quotes.",
        "card_number": "This looks like a card number. Never send one: send the gateway's token as payment_method.",
    }

    def to_internal_value(self, data: Any) -> str:
        """The text, if it holds no card number."""
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if has_card_number(text):
            self.fail("card_number")
        return text


class WebhookUrlField(serializers.CharField):
    """A URL that we shall call. The setting `WEBHOOK_URL_VALIDATOR` names who knows which may be."""

    def run_validators(self, value: Any) -> None:
        """Ask it about what is in order otherwise."""
        super().run_validators(value)
        import_string(settings.WEBHOOK_URL_VALIDATOR)(value)


@extend_schema_field({"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$", "example": "+4915123456789"})
class PhoneField(serializers.CharField):
    """A phone number that exists in its country's plan, in E.164: https://www.itu.int/rec/T-REC-E.164."""

    default_error_messages: ClassVar = {
        "phone": "A phone number is written in E.164: + and the country code, no spaces, such as +4915123456789.",
    }

    def to_internal_value(self, data: Any) -> str:
        """The number, if it can be one."""
        number = super().to_internal_value(data)
        if not is_phone_number(number):
            self.fail("phone")
        return number


def is_phone_number(text: str) -> bool:
    """Whether a text is a valid number, written in E.164 and not otherwise."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return False
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return bool(phonenumbers.is_valid_number(number)) and e164 == text


def has_card_number(text: str) -> bool:
    """Whether 13 to 19 digits in the text, in one run or in neighbouring groups, pass the Luhn check."""
    return any(holds_card_number(re.split("[ -]", found[0])) for found in DIGIT_GROUPS.finditer(text))


def without_card_numbers(text: str) -> str:
    """The text with stars in the place of the digits of card numbers, and of what stands in one group with them."""
    return DIGIT_GROUPS.sub(
        lambda found: re.sub("[0-9]", "*", found[0]) if has_card_number(found[0]) else found[0], text
    )


def holds_card_number(groups: Sequence[str]) -> bool:
    """Whether a sequence of neighbouring groups of digits is as long as a card number, and passes the Luhn check."""
    edges = [0, *accumulate(map(len, groups))]
    sums = luhn_sums("".join(groups))
    return any(
        (sums[end % 2][end] - sums[end % 2][start]) % 10 == 0
        for place, start in enumerate(edges)
        for end in edges[place + 1 : place + CARD_LENGTHS.stop]
        if end - start in CARD_LENGTHS
    )


def luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    """The sums that the Luhn check makes of all beginnings of a text, as if it ended at an even place, or at an odd
    one: every second digit from the right is doubled. Of two beginnings, the difference is that of what lies between.
    """
    sums = []
    for doubled_at in (0, 1):
        signs = (DOUBLED[int(digit)] if place % 2 == doubled_at else int(digit) for place, digit in enumerate(digits))
        sums.append([0, *accumulate(signs)])
    return sums[0], sums[1]
