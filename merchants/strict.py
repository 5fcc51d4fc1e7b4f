"""Bodies that say only what is understood."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers


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
    if unknown := sorted(data.keys() - fields.keys()):
        message = "There is no such field. Known are: " + ", ".join(fields) + "."
        raise serializers.ValidationError(
            {name[:100]: serializers.ErrorDetail(message, code="unknown_field") for name in unknown}
        )
