"""The API's addresses about who is told. A trailing slash is optional everywhere."""

from django.urls import re_path

from notifications.contact_views import ContactsView, ContactView
from notifications.delivery_views import (
    EndpointDeliveriesView,
    NotificationsView,
    NotificationView,
    RedeliverNotificationView,
    RedeliverWebhookView,
    WebhookDeliveriesView,
    WebhookDeliveryView,
)
from notifications.endpoint_views import EndpointsView, EndpointView, RedeliverSinceView, RotateView, SendTestView
from notifications.preference_views import PreferencesView

UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
ENDPOINT = f"webhook-endpoints/(?P<endpoint_id>{UUID})"
WEBHOOK = f"webhook-deliveries/(?P<delivery_id>{UUID})"
NOTIFICATION = f"notifications/(?P<delivery_id>{UUID})"
#: Any text, slashes included; of those at its end, the last one is the address's own.
CONTACT = r"contacts/(?P<user_id>[\s\S]+?)"

urlpatterns = [
    re_path(r"^webhook-endpoints/?$", EndpointsView.as_view(), name="webhook-endpoints"),
    re_path(rf"^{ENDPOINT}/?$", EndpointView.as_view(), name="webhook-endpoint"),
    re_path(rf"^{ENDPOINT}/rotate-secret/?$", RotateView.as_view(), name="webhook-endpoint-rotate-secret"),
    re_path(rf"^{ENDPOINT}/test/?$", SendTestView.as_view(), name="webhook-endpoint-test"),
    re_path(rf"^{ENDPOINT}/deliveries/?$", EndpointDeliveriesView.as_view(), name="webhook-endpoint-deliveries"),
    re_path(rf"^{ENDPOINT}/redeliver/?$", RedeliverSinceView.as_view(), name="webhook-endpoint-redeliver"),
    re_path(r"^webhook-deliveries/?$", WebhookDeliveriesView.as_view(), name="webhook-deliveries"),
    re_path(rf"^{WEBHOOK}/?$", WebhookDeliveryView.as_view(), name="webhook-delivery"),
    re_path(rf"^{WEBHOOK}/redeliver/?$", RedeliverWebhookView.as_view(), name="webhook-delivery-redeliver"),
    re_path(r"^notifications/?$", NotificationsView.as_view(), name="notifications"),
    re_path(rf"^{NOTIFICATION}/?$", NotificationView.as_view(), name="notification"),
    re_path(rf"^{NOTIFICATION}/redeliver/?$", RedeliverNotificationView.as_view(), name="notification-redeliver"),
    re_path(r"^contacts/?$", ContactsView.as_view(), name="contacts"),
    re_path(rf"^{CONTACT}/?$", ContactView.as_view(), name="contact"),
    re_path(r"^notification-preferences/?$", PreferencesView.as_view(), name="notification-preferences"),
]
