"""What the admin shows and nobody edits by hand."""

from typing import Any

from django.http import HttpRequest


class LookOnly:
    """Mixin for admin classes: nothing is added, changed or deleted; actions are operations with a reason."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No."""
        return False
