"""Bodies that say only what is understood."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final
from uuid import UUID

from rest_framework import serializers
from rest_framework.fields import empty

from merchants.characters import find_identifier_fault, normalize_identifier

#: Unknown fields that a refusal names; a body can hold thousands.
MAX_UNKNOWN_REPORTED: Final = 20


class ExactCharField(serializers.CharField):
    """A JSON string that is kept as it was sent: nothing is trimmed, and a number is not made a string.

    Its length is checked before anything looks at each character. A string of white space alone counts as blank.
    """

    default_error_messages: ClassVar = {"invalid": "This must be a string: put it in double quotes."}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Return the string, unchanged."""
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        if not self.allow_blank and data.isspace():
            self.fail("blank")
        return data


class NameField(ExactCharField):
    """A text in one line of visible characters, without spaces at either end."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text, unchanged."""
        text = super().to_internal_value(data)
        if fault := find_identifier_fault(text):
            raise serializers.ValidationError(fault.message, code=fault.code)
        return text


class IdentifierField(NameField):
    """An identifier of the merchant's system, in the form in which it is stored and compared: NFC."""

    def to_internal_value(self, data: Any) -> str:
        """Return the identifier in NFC."""
        return normalize_identifier(super().to_internal_value(data))


class ExactEmailField(ExactCharField, serializers.EmailField):
    """A mail address that is kept as it was sent: spaces around it are refused."""


class StrictBooleanField(serializers.BooleanField):
    """A JSON boolean: `true` or `false`. Texts and numbers that others read as one are refused."""

    default_error_messages: ClassVar = {"invalid": "This must be true or false, a JSON boolean without quotes."}

    def to_internal_value(self, data: Any) -> bool:
        """Return the boolean."""
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without a fraction. A text of digits is refused."""

    default_error_messages: ClassVar = {"invalid": "This must be a whole number without quotes."}

    def to_internal_value(self, data: Any) -> int:
        """Return the number."""
        if type(data) is not int:
            self.fail("invalid")
        return data


class StrictUUIDField(serializers.UUIDField):
    """A UUID in a JSON string. A number is not read as one."""

    def to_internal_value(self, data: Any) -> UUID:
        """Return the UUID."""
        if not isinstance(data, str):
            self.fail("invalid", value="")
        found: UUID = super().to_internal_value(data)
        return found


class BoundedListField(serializers.ListField):
    """A list whose length is checked before its elements are: a body can hold half a million of them."""

    def run_child_validation(self, data: Any) -> list[Any]:
        """The elements, each checked, if there are not too many. Raises ValidationError."""
        assert self.max_length is not None, "a list has a limit"
        if len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        elements: list[Any] = super().run_child_validation(data)
        return elements


class KnownFieldsOnly:
    """Mixin for serializers that refuse fields that they do not know."""

    def run_validation(self: Any, data: Any = empty) -> Any:
        """Return the validated values.

        Raises:
            ValidationError: names every fault, those of known fields and each field that does not exist.
        """
        unknown = find_unknown(data, self.fields) if isinstance(data, dict) else {}
        try:
            validated = super().run_validation(data)  # type: ignore[misc]  # the serializer's
        except serializers.ValidationError as error:
            if unknown and isinstance(error.detail, dict):
                raise serializers.ValidationError({**unknown, **error.detail}) from None
            raise
        if unknown:
            raise serializers.ValidationError(unknown)
        return validated


def find_unknown(data: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, serializers.ErrorDetail]:
    """Return the fault of each field that does not exist: a misspelt one would silently change what is done."""
    unknown = sorted(data.keys() - fields.keys())[:MAX_UNKNOWN_REPORTED]
    if not unknown:
        return {}
    message = "There is no such field. Known are: " + ", ".join(fields) + "."
    return {name[:100]: serializers.ErrorDetail(message, code="unknown_field") for name in unknown}


class ChoiceField(serializers.ChoiceField):
    """One of several values; the error of another one lists them."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices, **options)
        if "invalid_choice" not in options.get("error_messages", {}):
            self.error_messages["invalid_choice"] = "Choose one of: " + ", ".join(map(str, self.choices)) + "."
