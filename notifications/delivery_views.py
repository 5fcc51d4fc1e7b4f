"""The API's deliveries: of webhooks, and of mail and SMS, which are called notifications there."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.audit import by
from merchants.models import Merchant, Mode, Scope
from merchants.principal import caller_of
from notifications.endpoint_views import endpoint_for
from notifications.filters import MESSAGES, DeliveryFilter, NotificationFilter, WebhookDeliveryFilter
from notifications.models import Channel, Delivery
from notifications.reads import delivery_path, represent_delivery, represent_whole_delivery
from notifications.redelivery import redeliver
from notifications.serializers import DeliverySerializer, WholeDeliverySerializer
from payments.pages import NewestFirst
from payments.serializers import problems

#: How the three kinds of requests are documented.
LIST: Any = {(200, "application/json"): DeliverySerializer(many=True), **problems(400, 401, 403, 404)}
ONE: Any = {(200, "application/json"): WholeDeliverySerializer, **problems(401, 403, 404)}
AGAIN: Any = {(202, "application/json"): DeliverySerializer, **problems(401, 403, 404, 409)}


def deliveries_of(merchant: Merchant, mode: Mode, channels: tuple[Channel, ...]) -> QuerySet[Delivery]:
    """The deliveries that a caller may see."""
    return Delivery.objects.filter(merchant=merchant, mode=mode, channel__in=channels)


class DeliveriesView(GenericAPIView[Delivery]):
    """What both families have in common. A subclass names its channels, its scopes and its documentation."""

    channels: ClassVar[tuple[Channel, ...]] = (Channel.WEBHOOK,)
    serializer_class = DeliverySerializer
    pagination_class = NewestFirst
    filterset_class: ClassVar[Any] = WebhookDeliveryFilter

    def get_queryset(self) -> QuerySet[Delivery]:
        """The caller's deliveries by these channels."""
        if getattr(self, "swagger_fake_view", False):
            return Delivery.objects.none()
        caller = caller_of(self.request)
        return deliveries_of(caller.merchant, caller.mode, self.channels)

    def page(self) -> Response:
        """A page of what the parameters choose."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_delivery(delivery) for delivery in page or ()])

    def one(self, delivery_id: str) -> Delivery:
        """The caller's delivery of this id.

        Raises:
            Http404: the caller has none.
        """
        delivery = self.get_queryset().filter(pk=delivery_id).first()
        if delivery is None:
            raise Http404
        return delivery

    def again(self, delivery_id: str) -> Response:
        """Begin a delivery anew."""
        delivery = redeliver(delivery=self.one(delivery_id), now=timezone.now(), who=by(self.request))
        return Response(represent_delivery(delivery), status=202, headers={"Location": delivery_path(delivery)})


class WebhookDeliveriesView(DeliveriesView):
    """The webhooks to all endpoints."""

    scopes: ClassVar = {"GET": Scope.WEBHOOKS_READ}

    @extend_schema(operation_id="webhook_deliveries_list", responses=LIST)
    def get(self, request: Request) -> Response:
        """List webhooks, newest first, by cursor."""
        return self.page()


class EndpointDeliveriesView(DeliveriesView):
    """The webhooks to one endpoint."""

    scopes: ClassVar = {"GET": Scope.WEBHOOKS_READ}
    filterset_class = DeliveryFilter

    def get_queryset(self) -> QuerySet[Delivery]:
        """The endpoint's deliveries.

        Raises:
            Http404: the caller has no such endpoint.
        """
        if getattr(self, "swagger_fake_view", False):
            return Delivery.objects.none()
        return super().get_queryset().filter(endpoint=endpoint_for(self.request, self.kwargs["endpoint_id"]))

    @extend_schema(operation_id="webhook_endpoints_deliveries_list", responses=LIST)
    def get(self, request: Request, endpoint_id: str) -> Response:
        """List webhooks to one endpoint, newest first, by cursor."""
        return self.page()


class WebhookDeliveryView(DeliveriesView):
    """One webhook."""

    scopes: ClassVar = {"GET": Scope.WEBHOOKS_READ}

    @extend_schema(operation_id="webhook_deliveries_retrieve", responses=ONE)
    def get(self, request: Request, delivery_id: str) -> Response:
        """A webhook with all its attempts."""
        return Response(represent_whole_delivery(self.one(delivery_id)))


class RedeliverWebhookView(DeliveriesView):
    """One webhook, anew."""

    scopes: ClassVar = {"POST": Scope.WEBHOOKS_WRITE}

    @extend_schema(operation_id="webhook_deliveries_redeliver", request=None, responses=AGAIN)
    def post(self, request: Request, delivery_id: str) -> Response:
        """Send an ended webhook again, with the same `webhook-id` and all its attempts."""
        return self.again(delivery_id)


class NotificationsView(DeliveriesView):
    """Mail and SMS."""

    channels = MESSAGES
    scopes: ClassVar = {"GET": Scope.NOTIFICATIONS_READ}
    filterset_class = NotificationFilter

    @extend_schema(operation_id="notifications_list", responses=LIST)
    def get(self, request: Request) -> Response:
        """List mail and SMS, newest first, by cursor. Recipients are masked."""
        return self.page()


class NotificationView(DeliveriesView):
    """One mail or SMS."""

    channels = MESSAGES
    scopes: ClassVar = {"GET": Scope.NOTIFICATIONS_READ}

    @extend_schema(operation_id="notifications_retrieve", responses=ONE)
    def get(self, request: Request, delivery_id: str) -> Response:
        """A mail or SMS with all its attempts. The recipient is masked."""
        return Response(represent_whole_delivery(self.one(delivery_id)))


class RedeliverNotificationView(DeliveriesView):
    """One mail or SMS, anew."""

    channels = MESSAGES
    scopes: ClassVar = {"POST": Scope.NOTIFICATIONS_WRITE}

    @extend_schema(operation_id="notifications_redeliver", request=None, responses=AGAIN)
    def post(self, request: Request, delivery_id: str) -> Response:
        """Send an ended mail or SMS again. Whoever got it before gets it twice."""
        return self.again(delivery_id)
