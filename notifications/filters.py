"""The query parameters of the lists of endpoints and deliveries."""

from typing import Any, ClassVar, Final

from django_filters import ChoiceFilter, UUIDFilter

from merchants.query import StrictFilter, UtcFilter
from notifications.models import Audience, Channel, Delivery, WebhookEndpoint
from notifications.notices import OwnType
from payments.events import EVENT_TYPES

#: Whatever a delivery may be about.
TYPES: Final = [(name, name) for name in (*EVENT_TYPES, *(kind.value for kind in OwnType))]
MESSAGES: Final = (Channel.EMAIL, Channel.SMS)


class EndpointFilter(StrictFilter):
    """Narrow down a merchant's webhook endpoints."""

    kind = ChoiceFilter(choices=WebhookEndpoint.Kind.choices)
    enabled = ChoiceFilter(choices=[("true", "true"), ("false", "false")], method="filter_enabled")

    class Meta:
        model = WebhookEndpoint
        fields: ClassVar[list[str]] = []

    def filter_enabled(self, queryset: Any, name: str, value: str) -> Any:
        """Those that are enabled, or those that are not."""
        return queryset.filter(enabled=value == "true")


class DeliveryFilter(StrictFilter):
    """Narrow down the deliveries to one endpoint."""

    state = ChoiceFilter(choices=Delivery.State.choices)
    event_type = ChoiceFilter(choices=TYPES)
    payment_id = UUIDFilter()
    created_from = UtcFilter(field_name="created_at", lookup_expr="gte")
    created_before = UtcFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Delivery
        fields: ClassVar[list[str]] = []


class WebhookDeliveryFilter(DeliveryFilter):
    """Narrow down the deliveries to all endpoints."""

    endpoint_id = UUIDFilter()


class NotificationFilter(DeliveryFilter):
    """Narrow down what was told by mail and SMS."""

    channel = ChoiceFilter(choices=[(channel.value, channel.label) for channel in MESSAGES])
    audience = ChoiceFilter(choices=Audience.choices)
