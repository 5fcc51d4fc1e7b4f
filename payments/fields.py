"""Serializer fields for money, codes and free text, with errors that say the mend."""

import re
from decimal import Decimal
from typing import Any, ClassVar, Final

import phonenumbers
from django.conf import settings
from django.utils.module_loading import import_string
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from merchants.characters import find_identifier_fault, find_text_fault
from merchants.strict import ExactCharField
from payments.cards import has_card_number
from payments.money import EXPONENTS

#: Plain decimal notation. A comma, a sign, an exponent or a currency symbol in a string is a guess too many.
DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
MAX_METADATA_PAIRS: Final = 50


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
class CurrencyField(ExactCharField):
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


class CardFreeCharField(ExactCharField):
    """Text in which no card number is accepted: we must never hold one (PCI DSS 3.2)."""

    default_error_messages: ClassVar = {
        "card_number": "This looks like a card number. Never send one: send the gateway's token as payment_method.",
    }

    def to_internal_value(self, data: Any) -> str:
        """The text, if it holds no card number."""
        text = super().to_internal_value(data)
        if has_card_number(text):
            self.fail("card_number")
        return text


class DescriptionField(CardFreeCharField):
    """Free text without card numbers and without characters that hide or reorder what is read."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text, unchanged."""
        text = super().to_internal_value(data)
        if fault := find_text_fault(text):
            raise serializers.ValidationError(fault.message, code=fault.code)
        return text


class TokenField(CardFreeCharField):
    """A token of a gateway: visible characters, without spaces at either end, and no card number."""

    def to_internal_value(self, data: Any) -> str:
        """Return the token, unchanged."""
        token = super().to_internal_value(data)
        if fault := find_identifier_fault(token):
            raise serializers.ValidationError(fault.message, code=fault.code)
        return token


class MetadataField(serializers.DictField):
    """Pairs of text. How many there are is checked before any of them is."""

    default_error_messages: ClassVar = {"too_many": "At most {most} pairs."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The pairs, each checked, if there are not too many."""
        if isinstance(data, dict) and len(data) > MAX_METADATA_PAIRS:
            self.fail("too_many", most=MAX_METADATA_PAIRS)
        pairs: dict[str, Any] = super().to_internal_value(data)
        return pairs


class WebhookUrlField(ExactCharField):
    """A URL that we shall call. The setting `WEBHOOK_URL_VALIDATOR` names who knows which may be."""

    def run_validators(self, value: Any) -> None:
        """Ask it about what is in order otherwise."""
        super().run_validators(value)
        import_string(settings.WEBHOOK_URL_VALIDATOR)(value)


@extend_schema_field({"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$", "example": "+4915123456789"})
class PhoneField(ExactCharField):
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
