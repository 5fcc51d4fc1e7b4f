"""What the API answers to OPTIONS: the header `Allow`, and nothing of its own."""

from typing import Any

from rest_framework.metadata import BaseMetadata
from rest_framework.request import Request


class AllowedMethods(BaseMetadata):
    """Describes no fields, unlike Django REST framework's own: the documentation has them, and needs no object."""

    def determine_metadata(self, request: Request, view: Any) -> None:
        """Return no body."""
