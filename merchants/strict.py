"""Bodies that say only what is understood."""

from collections.abc import Mapping
from typing import Any, Final

from rest_framework import serializers

#: Unknown fields that a refusal names; a body can hold thousands.
MAX_UNKNOWN_REPORTED: Final = 20


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

    def to_internal_value(self: Any, data: Any) -> Any:
        """Refuse the unknown."""
        if isinstance(data, dict):
            require_known(data, self.fields)
        return super().to_internal_value(data)  # type: ignore[misc]  # the serializer's


def require_known(data: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Refuse the unknown: a misspelt field would silently change what is done.

    Raises:
        ValidationError: of each that there is not.
    """
    if unknown := sorted(data.keys() - fields.keys())[:MAX_UNKNOWN_REPORTED]:
        message = "There is no such field. Known are: " + ", ".join(fields) + "."
        raise serializers.ValidationError(
            {name[:100]: serializers.ErrorDetail(message, code="unknown_field") for name in unknown}
        )
