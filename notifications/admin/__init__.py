"""Who is told, in the admin: deliveries, webhook endpoints, contacts and preferences."""

from notifications.admin.audience import ContactAdmin, PreferenceAdmin
from notifications.admin.deliveries import DeliveryAdmin
from notifications.admin.endpoints import WebhookEndpointAdmin

__all__ = ["ContactAdmin", "DeliveryAdmin", "PreferenceAdmin", "WebhookEndpointAdmin"]
