"""Where gateways tell us what happened by themselves. The signature is the credential."""

from typing import ClassVar

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from payments.operations import receive_gateway_event
from payments.parsers import BodyTooLarge


class GatewayWebhookView(APIView):
    """A gateway's webhooks: stored before they are handled; 200 means stored."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    limits: ClassVar = {"POST": "gateway_events"}

    @extend_schema(exclude=True)
    def post(self, request: Request, gateway: str) -> Response:
        """Store one event."""
        body = request.stream.read(settings.MAX_BODY_BYTES + 1) if request.stream else b""
        if len(body) > settings.MAX_BODY_BYTES:
            raise BodyTooLarge(settings.MAX_BODY_BYTES)
        headers = {name.lower(): value for name, value in request.headers.items()}
        is_new = receive_gateway_event(
            gateway=gateway, headers=headers, body=body, request_id=request.META["HTTP_X_REQUEST_ID"]
        )
        return Response({"stored": True, "known": not is_new})
