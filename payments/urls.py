"""The addresses of the API. A trailing slash is optional everywhere."""

from django.urls import re_path

from payments.batch_views import PaymentBatchView
from payments.event_views import EventsView, PaymentEventsView
from payments.gateway_views import GatewayWebhookView
from payments.views import PaymentsView, PaymentView

UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

urlpatterns = [
    re_path(r"^payments/?$", PaymentsView.as_view(), name="payments"),
    re_path(r"^payments/batch/?$", PaymentBatchView.as_view(), name="payments-batch"),
    re_path(rf"^payments/(?P<payment_id>{UUID})/?$", PaymentView.as_view(), name="payment"),
    re_path(rf"^payments/(?P<payment_id>{UUID})/events/?$", PaymentEventsView.as_view(), name="payment-events"),
    re_path(r"^events/?$", EventsView.as_view(), name="events"),
    re_path(r"^gateways/(?P<gateway>[a-z0-9_-]+)/webhooks/?$", GatewayWebhookView.as_view(), name="gateway"),
]
