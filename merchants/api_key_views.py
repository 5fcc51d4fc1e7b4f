"""The API's keys for services: people who administer a merchant make, see and revoke them. Keys never make keys."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants import api_keys, audit
from merchants.documents import problems
from merchants.models import ApiKey, Mode, Scope
from merchants.pages import NewestKeysFirst
from merchants.principal import API_KEYS_READ, API_KEYS_WRITE, caller_of
from merchants.query import StrictFilter
from merchants.strict import BoundedListField, ChoiceField, ExactCharField, KnownFieldsOnly, NameField


class ApiKeyRequestSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """A key to make, for the merchant and the mode of one's token."""

    name = NameField(max_length=100, help_text="For people: which service has it.")
    scopes = BoundedListField(
        child=ChoiceField(choices=Scope.choices),
        required=False,
        allow_empty=False,
        max_length=len(Scope),
        help_text="What it allows; default: all.",
    )
    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        default=None,
        validators=[api_keys.validate_expiry],
        help_text="From when on it is refused; default: never.",
    )


class RevocationSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Why a key goes."""

    reason = ExactCharField(
        required=False, default="", allow_blank=True, max_length=audit.LONGEST_REASON, help_text="For the record."
    )


class ApiKeySerializer(serializers.Serializer[ApiKey]):
    """An API key, without the key."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    mode = ChoiceField(choices=Mode.choices)
    prefix = serializers.CharField(help_text="Its beginning, to tell keys apart.")
    scopes = serializers.ListField(child=ChoiceField(choices=Scope.choices))
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")


class NewApiKeySerializer(ApiKeySerializer):
    """An API key, this once with the key."""

    key = serializers.CharField(help_text="The key itself: it is shown here and never again.")


class ApiKeysView(GenericAPIView[ApiKey]):
    """Make API keys and list them."""

    scopes: ClassVar = {"GET": API_KEYS_READ, "POST": API_KEYS_WRITE}
    serializer_class = ApiKeySerializer
    pagination_class = NewestKeysFirst
    filterset_class = StrictFilter

    def get_queryset(self) -> QuerySet[ApiKey]:
        """The caller's keys."""
        if getattr(self, "swagger_fake_view", False):
            return ApiKey.objects.none()
        return keys_for(self.request)

    @extend_schema(
        operation_id="api_keys_create",
        request=ApiKeyRequestSerializer,
        responses={
            (201, "application/json"): OpenApiResponse(
                NewApiKeySerializer, description="Made. Its `key` is in this answer and in no other."
            ),
            **problems(400, 401, 403, 409, 413, 415),
        },
    )
    def post(self, request: Request) -> Response:
        """Make a key for a service, for the merchant and the mode of your token."""
        caller = caller_of(request)
        serializer = ApiKeyRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        record, key = api_keys.create(
            merchant=caller.merchant,
            mode=caller.mode,
            name=given["name"],
            scopes=[Scope(scope) for scope in dict.fromkeys(given.get("scopes", Scope.values))],
            expires_at=given["expires_at"],
            who=audit.by(request),
            now=timezone.now(),
        )
        headers = {"Location": f"/api/v1/api-keys/{record.pk}"}
        return Response({**ApiKeySerializer(record).data, "key": key}, status=201, headers=headers)

    @extend_schema(
        operation_id="api_keys_list",
        responses={(200, "application/json"): ApiKeySerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List API keys, newest first, by cursor; revoked and expired ones as well."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([ApiKeySerializer(key).data for key in page or ()])


class ApiKeyView(GenericAPIView[ApiKey]):
    """One API key."""

    scopes: ClassVar = {"GET": API_KEYS_READ}
    serializer_class = ApiKeySerializer

    @extend_schema(
        operation_id="api_keys_retrieve",
        responses={(200, "application/json"): ApiKeySerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, key_id: str) -> Response:
        """An API key: what it may, and when it was last used. The key itself is not shown again."""
        return Response(ApiKeySerializer(key_for(request, key_id)).data)


class RevokeView(GenericAPIView[ApiKey]):
    """The end of a key."""

    scopes: ClassVar = {"POST": API_KEYS_WRITE}
    serializer_class = RevocationSerializer

    @extend_schema(
        operation_id="api_keys_revoke",
        request=RevocationSerializer,
        responses={
            (200, "application/json"): ApiKeySerializer,
            **problems(400, 401, 403, 404, 413, 415),
        },
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Revoke an API key: it is refused from now on, and for ever. Doing so again changes nothing."""
        serializer = RevocationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        revoked = api_keys.revoke(
            key=key_for(request, key_id),
            reason=serializer.validated_data["reason"],
            who=audit.by(request),
            now=timezone.now(),
        )
        return Response(ApiKeySerializer(revoked).data)


def keys_for(request: Request) -> QuerySet[ApiKey]:
    """The keys of the caller's merchant and mode."""
    caller = caller_of(request)
    return api_keys.keys_of(caller.merchant, caller.mode)


def key_for(request: Request, key_id: str) -> ApiKey:
    """One of them. Raises Http404."""
    found = keys_for(request).filter(pk=key_id).first()
    if found is None:
        raise Http404
    return found
