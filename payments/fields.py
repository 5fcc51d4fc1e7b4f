"""Serializer fields for money, codes and free text, with errors that say the mend."""

import re
from collections.abc import Iterator
from decimal import Decimal
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
    return any(
        len(digits) in CARD_LENGTHS and passes_luhn(digits)
        for found in DIGIT_GROUPS.finditer(text)
        for digits in neighbouring_groups(re.split("[ -]", found[0]))
    )


def without_card_numbers(text: str) -> str:
    """The text with stars in the place of the digits of card numbers, and of what stands in one group with them."""
    return DIGIT_GROUPS.sub(
        lambda found: re.sub("[0-9]", "*", found[0]) if has_card_number(found[0]) else found[0], text
    )


def neighbouring_groups(groups: list[str]) -> Iterator[str]:
    """Every sequence of neighbouring groups that is no longer than a card number."""
    for start in range(len(groups)):
        digits = ""
        for group in groups[start:]:
            digits += group
            if len(digits) >= CARD_LENGTHS.stop:
                break
            yield digits


def passes_luhn(digits: str) -> bool:
    """The check digit of card numbers: every second digit from the right doubled, the sum divisible by ten."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0
