"""The API's webhook endpoints: make, look, change, rotate, try out, deliver again."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.audit import by
from merchants.models import Scope
from merchants.principal import caller_of
from notifications import endpoints
from notifications.filters import EndpointFilter
from notifications.models import WebhookEndpoint
from notifications.reads import delivery_path, endpoint_path, represent_delivery, represent_endpoint
from notifications.redelivery import redeliver_since
from notifications.serializers import (
    CountSerializer,
    DeliverySerializer,
    EndpointChangeSerializer,
    EndpointRequestSerializer,
    EndpointSerializer,
    EndpointWithSecretSerializer,
    RedeliverSinceSerializer,
)
from payments.pages import NewestFirst
from payments.serializers import problems


class EndpointsView(GenericAPIView[WebhookEndpoint]):
    """Make webhook endpoints and list them."""

    scopes: ClassVar = {"GET": Scope.WEBHOOKS_READ, "POST": Scope.WEBHOOKS_WRITE}
    serializer_class = EndpointSerializer
    pagination_class = NewestFirst
    filterset_class = EndpointFilter

    def get_queryset(self) -> QuerySet[WebhookEndpoint]:
        """The caller's endpoints."""
        if getattr(self, "swagger_fake_view", False):
            return WebhookEndpoint.objects.none()
        caller = caller_of(self.request)
        return endpoints.endpoints_of(caller.merchant, caller.mode)

    @extend_schema(
        operation_id="webhook_endpoints_create",
        request=EndpointRequestSerializer,
        responses={
            (201, "application/json"): OpenApiResponse(
                EndpointWithSecretSerializer, description="Made. Its `secret` is in this answer and in no other."
            ),
            **problems(400, 401, 403, 409, 413, 415),
        },
    )
    def post(self, request: Request) -> Response:
        """Have an address of yours told of what happens, signed with the secret of the answer."""
        caller = caller_of(request)
        serializer = EndpointRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        made = endpoints.create(
            merchant=caller.merchant, mode=caller.mode, who=by(request), **serializer.validated_data
        )
        return Response(with_secret(*made), status=201, headers={"Location": endpoint_path(made[0])})

    @extend_schema(
        operation_id="webhook_endpoints_list",
        responses={(200, "application/json"): EndpointSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List webhook endpoints, newest first, by cursor."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_endpoint(endpoint) for endpoint in page or ()])


class EndpointView(GenericAPIView[WebhookEndpoint]):
    """One webhook endpoint."""

    scopes: ClassVar = {"GET": Scope.WEBHOOKS_READ, "PATCH": Scope.WEBHOOKS_WRITE, "DELETE": Scope.WEBHOOKS_WRITE}
    serializer_class = EndpointSerializer

    @extend_schema(
        operation_id="webhook_endpoints_retrieve",
        responses={(200, "application/json"): EndpointSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, endpoint_id: str) -> Response:
        """A webhook endpoint, and how it does. Its secret is not shown again."""
        return Response(represent_endpoint(endpoint_for(request, endpoint_id)))

    @extend_schema(
        operation_id="webhook_endpoints_update",
        request=EndpointChangeSerializer,
        responses={(200, "application/json"): EndpointSerializer, **problems(400, 401, 403, 404, 409, 413, 415)},
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Change a webhook endpoint, enable or disable it. What was not delivered goes to a new URL."""
        endpoint = endpoint_for(request, endpoint_id)
        serializer = EndpointChangeSerializer(data=request.data, context={"endpoint": endpoint})
        serializer.is_valid(raise_exception=True)
        changed = endpoints.change(endpoint=endpoint, now=timezone.now(), who=by(request), **serializer.validated_data)
        return Response(represent_endpoint(changed))

    @extend_schema(operation_id="webhook_endpoints_delete", responses={204: None, **problems(401, 403, 404)})
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """Send nothing more to it. What is under way is canceled; its deliveries stay as the record."""
        endpoints.delete(endpoint=endpoint_for(request, endpoint_id), now=timezone.now(), who=by(request))
        return Response(status=204)


class RotateView(GenericAPIView[WebhookEndpoint]):
    """A new secret."""

    scopes: ClassVar = {"POST": Scope.WEBHOOKS_WRITE}
    serializer_class = EndpointWithSecretSerializer

    @extend_schema(
        operation_id="webhook_endpoints_rotate_secret",
        request=None,
        responses={
            (200, "application/json"): OpenApiResponse(
                EndpointWithSecretSerializer, description="The new `secret` is in this answer and in no other."
            ),
            **problems(401, 403, 404, 409),
        },
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Sign with a new secret, and for 24 hours with the present one as well.

        A second rotation drops the oldest secret at once.
        """
        endpoint = endpoint_for(request, endpoint_id)
        return Response(with_secret(*endpoints.rotate(endpoint=endpoint, now=timezone.now(), who=by(request))))


class SendTestView(GenericAPIView[WebhookEndpoint]):
    """A test event."""

    scopes: ClassVar = {"POST": Scope.WEBHOOKS_WRITE}
    serializer_class = DeliverySerializer

    @extend_schema(
        operation_id="webhook_endpoints_test",
        request=None,
        responses={(202, "application/json"): DeliverySerializer, **problems(401, 403, 404, 409)},
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send a `webhook_endpoint.test`, whatever event types it wants. Follow the delivery at `Location`."""
        delivery = endpoints.send_test(
            endpoint=endpoint_for(request, endpoint_id),
            request_id=request.META["HTTP_X_REQUEST_ID"],
            now=timezone.now(),
            who=by(request),
        )
        return Response(represent_delivery(delivery), status=202, headers={"Location": delivery_path(delivery)})


class RedeliverSinceView(GenericAPIView[WebhookEndpoint]):
    """Deliveries in bulk, anew."""

    scopes: ClassVar = {"POST": Scope.WEBHOOKS_WRITE}
    serializer_class = RedeliverSinceSerializer

    @extend_schema(
        operation_id="webhook_endpoints_redeliver",
        request=RedeliverSinceSerializer,
        responses={(202, "application/json"): CountSerializer, **problems(400, 401, 403, 404, 409, 413, 415)},
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Deliver again what was not delivered since a time, or with `all` everything; in the order of old."""
        endpoint = endpoint_for(request, endpoint_id)
        serializer = RedeliverSinceSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        chosen = serializer.validated_data
        count = redeliver_since(
            endpoint=endpoint, since=chosen["since"], everything=chosen["all"], now=timezone.now(), who=by(request)
        )
        return Response({"count": count}, status=202)


def endpoint_for(request: Request, endpoint_id: str) -> WebhookEndpoint:
    """The caller's endpoint of this id.

    Raises:
        Http404: the caller has none.
    """
    caller = caller_of(request)
    endpoint = endpoints.endpoints_of(caller.merchant, caller.mode).filter(pk=endpoint_id).first()
    if endpoint is None:
        raise Http404
    return endpoint


def with_secret(endpoint: WebhookEndpoint, secret: str) -> dict[str, Any]:
    """An endpoint as it is shown when its secret is new."""
    return {**represent_endpoint(endpoint), "secret": secret}
