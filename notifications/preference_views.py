"""The API's account of who is told what."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.audit import by
from merchants.models import Scope
from merchants.principal import caller_of
from notifications import preferences
from notifications.people_serializers import PreferencesSerializer
from notifications.reads import represent_preferences
from payments.serializers import problems


class PreferencesView(GenericAPIView[Any]):
    """One document for each merchant."""

    scopes: ClassVar = {"GET": Scope.NOTIFICATIONS_READ, "PUT": Scope.NOTIFICATIONS_WRITE}
    serializer_class = PreferencesSerializer

    @extend_schema(
        operation_id="notification_preferences_retrieve",
        responses={(200, "application/json"): PreferencesSerializer, **problems(401, 403)},
    )
    def get(self, request: Request) -> Response:
        """Who is told what by mail and SMS, in which language."""
        return Response(represent_preferences(caller_of(request).merchant))

    @extend_schema(
        operation_id="notification_preferences_update",
        request=PreferencesSerializer,
        responses={(200, "application/json"): PreferencesSerializer, **problems(400, 401, 403, 413, 415)},
    )
    def put(self, request: Request) -> Response:
        """Change who is told what, in test and live mode alike. What the request does not name stays as it is."""
        serializer = PreferencesSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        merchant = preferences.change(
            merchant=caller_of(request).merchant,
            wishes=serializer.to_wishes(),
            fields=serializer.to_fields(),
            who=by(request),
        )
        return Response(represent_preferences(merchant))
