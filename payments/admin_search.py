"""Searching lists of the console by identifiers of the merchants' systems."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from merchants.characters import normalize_identifier


class NormalizedSearch:
    """Mixin for admins that search by `order_id` or `user_id`: the term is compared in NFC, as these are stored."""

    def get_search_results(
        self: Any, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for the term in NFC."""
        found: tuple[QuerySet[Any], bool] = super().get_search_results(  # type: ignore[misc]  # the admin's
            request, queryset, normalize_identifier(search_term)
        )
        return found
