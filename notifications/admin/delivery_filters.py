"""Filters and search of the console's list of deliveries. None asks the table for its values."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from notifications.models import Delivery
from notifications.notices import OwnType
from payments.events import EVENT_TYPES

#: Value of the parameter `age` -> its words, and how long ago at most.
AGES: Final[dict[str, tuple[str, timedelta]]] = {
    "hour": ("the last hour", timedelta(hours=1)),
    "day": ("the last day", timedelta(days=1)),
    "week": ("the last week", timedelta(days=7)),
}


class EventTypeFilter(admin.SimpleListFilter):
    """By what is told of."""

    title = "event type"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """All that there are."""
        return [(name, name) for name in (*EVENT_TYPES, *(kind.value for kind in OwnType))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Those of the chosen type."""
        value = self.value()
        return queryset.filter(event_type=value.replace("\0", "")) if value else queryset


class AgeFilter(admin.SimpleListFilter):
    """By when it was created."""

    title = "created in"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Hour, day and week."""
        return [(name, words) for name, (words, _) in AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> QuerySet[Delivery]:
        """Those created since then."""
        chosen = AGES.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - chosen[1]) if chosen else queryset


def find(queryset: QuerySet[Delivery], term: str) -> QuerySet[Delivery]:
    """What a whole id names: a delivery, an event, a payment or an endpoint; if none of them, a request.

    In this order, because the first four have indexes, and a request id, which has none, would spoil them.
    """
    try:
        id_ = UUID(term)
    except ValueError:
        return queryset.filter(request_id=term)
    named = queryset.filter(Q(pk=id_) | Q(event_id=id_) | Q(payment_id=id_) | Q(endpoint_id=id_))
    return named if named.exists() else queryset.filter(request_id=term)
