"""The query parameters of `GET /dead-letters` and `GET /approvals`."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django_filters import CharFilter, ChoiceFilter, UUIDFilter

from console.reads import PAYMENT
from merchants.models import Approval
from merchants.query import StrictFilter, UtcFilter
from messaging.models import DeadLetter


class DeadLetterFilter(StrictFilter):
    """Narrow down the dead letters."""

    state = ChoiceFilter(choices=DeadLetter.State.choices)
    queue = CharFilter(strip=False)
    actor = CharFilter(strip=False)
    cause = CharFilter(strip=False)
    payment_id = UUIDFilter(method="filter_payment")
    since = UtcFilter(field_name="last_failed_at", lookup_expr="gte", help_text="Last failed at this time or later.")
    before = UtcFilter(field_name="last_failed_at", lookup_expr="lt", help_text="Last failed before this time.")

    class Meta:
        model = DeadLetter
        fields: ClassVar[list[str]] = []

    def filter_payment(self, queryset: QuerySet[DeadLetter], name: str, value: UUID) -> QuerySet[Any]:
        """Those about one payment."""
        return queryset.filter(subject=f"{PAYMENT}:{value}")


class ApprovalFilter(StrictFilter):
    """Narrow down the approvals."""

    state = ChoiceFilter(choices=Approval.State.choices)

    class Meta:
        model = Approval
        fields: ClassVar[list[str]] = []
