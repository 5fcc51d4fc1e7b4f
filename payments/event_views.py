"""The HTTP API's account of what happened: to all of a merchant's payments, and to one of them."""

from typing import ClassVar

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.models import Scope
from merchants.principal import caller_of
from merchants.query import StrictFilter
from payments.filters import EventFilter
from payments.models import PaymentEvent
from payments.pages import NewestFirst, OldestVersionFirst
from payments.reads import events_of, payments_of, represent_event
from payments.serializers import EventSerializer, problems


class EventsView(GenericAPIView[PaymentEvent]):
    """What happened to all payments."""

    scopes: ClassVar = {"GET": Scope.PAYMENTS_READ}
    serializer_class = EventSerializer
    pagination_class = NewestFirst
    filterset_class = EventFilter

    def get_queryset(self) -> QuerySet[PaymentEvent]:
        """The events of the caller's payments."""
        if getattr(self, "swagger_fake_view", False):
            return PaymentEvent.objects.none()
        caller = caller_of(self.request)
        return events_of(caller.merchant, caller.mode)

    @extend_schema(
        operation_id="events_list",
        responses={(200, "application/json"): EventSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List what happened to your payments, newest first, by cursor."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_event(event) for event in page or ()])


class PaymentEventsView(GenericAPIView[PaymentEvent]):
    """What happened to one payment."""

    scopes: ClassVar = {"GET": Scope.PAYMENTS_READ}
    serializer_class = EventSerializer
    pagination_class = OldestVersionFirst
    filterset_class = StrictFilter

    def get_queryset(self) -> QuerySet[PaymentEvent]:
        """The payment's events.

        Raises:
            Http404: the caller has no such payment.
        """
        if getattr(self, "swagger_fake_view", False):
            return PaymentEvent.objects.none()
        caller, payment_id = caller_of(self.request), self.kwargs["payment_id"]
        if not payments_of(caller.merchant, caller.mode).filter(pk=payment_id).exists():
            raise Http404
        return events_of(caller.merchant, caller.mode).filter(payment_id=payment_id)

    @extend_schema(
        operation_id="payments_events_list",
        responses={(200, "application/json"): EventSerializer(many=True), **problems(400, 401, 403, 404)},
    )
    def get(self, request: Request, payment_id: str) -> Response:
        """List what happened to a payment, oldest first, by cursor."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_event(event) for event in page or ()])
