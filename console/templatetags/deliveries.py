"""What a payment's page says of who was told: `payments` itself knows nothing of notifications."""

from typing import Any, Final
from uuid import UUID

from django import template

from notifications.masking import mask
from notifications.models import Delivery

register = template.Library()

#: Shown on the page; the list has them all.
NEWEST: Final = 20


@register.inclusion_tag("admin/payments/payment/deliveries.html")
def deliveries_of(payment_id: UUID) -> dict[str, Any]:
    """Its newest deliveries, masked."""
    newest = Delivery.objects.filter(payment_id=payment_id).defer("data").order_by("-id")[:NEWEST]
    rows = [(delivery, mask(delivery.channel, delivery.recipient)) for delivery in newest]
    return {"newest": rows, "payment_id": payment_id}
