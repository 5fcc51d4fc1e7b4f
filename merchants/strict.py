"""Bodies that say only what is understood."""

from typing import Any

from rest_framework import serializers


class KnownFieldsOnly:
    """Mixin for serializers that refuse fields that they do not know."""

    def to_internal_value(self: Any, data: Any) -> Any:
        """Refuse the unknown: a misspelt field would silently change what is done."""
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            message = "There is no such field. Known are: " + ", ".join(self.fields) + "."
            raise serializers.ValidationError(
                {name[:100]: serializers.ErrorDetail(message, code="unknown_field") for name in unknown}
            )
        return super().to_internal_value(data)  # type: ignore[misc]  # the serializer's
