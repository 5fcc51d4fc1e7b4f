"""The query parameters of `GET /payments`."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import CharFilter, ChoiceFilter, IsoDateTimeFilter
from django_filters.rest_framework.filterset import FilterSet
from rest_framework.exceptions import ValidationError

from payments.models import Payment
from payments.states import Status


class UtcFilter(IsoDateTimeFilter):
    """A moment in ISO 8601, as UTC."""

    def filter(self, qs: QuerySet[Payment], value: datetime | None) -> QuerySet[Payment]:
        """Apply it.

        Raises:
            ValidationError: a moment that in UTC lies before the year 1 or after the year 9999.
        """
        try:
            filtered: QuerySet[Payment] = super().filter(qs, value.astimezone(UTC) if value else value)
        except OverflowError:
            raise ValidationError({self.field_name: "This moment is beyond the calendar."}) from None
        return filtered


class PaymentFilter(FilterSet):
    """Narrow down a merchant's payments. Unknown parameters are refused, not ignored."""

    status = ChoiceFilter(choices=Status.choices)
    order_id = CharFilter()
    user_id = CharFilter()
    currency = CharFilter()
    created_from = UtcFilter(field_name="created_at", lookup_expr="gte")
    created_before = UtcFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Payment
        fields: ClassVar[list[str]] = []

    #: Parameters of paging, which are not ours to refuse.
    PAGING: ClassVar = frozenset({"cursor", "page_size"})

    def filter_queryset(self, queryset: QuerySet[Payment]) -> Any:
        """Apply the filters.

        Raises:
            ValidationError: for a parameter that does not exist; a misspelt filter would show everything.
        """
        if unknown := sorted(set(self.data) - set(self.filters) - self.PAGING):
            message = "There is no such parameter. Known are: " + ", ".join([*self.filters, *sorted(self.PAGING)]) + "."
            raise ValidationError({name[:100]: message for name in unknown}, code="unknown_parameter")
        return super().filter_queryset(queryset)
