"""What merchants send about endpoints and deliveries, checked; and what they get, described for the documentation."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from merchants.models import Mode
from merchants.strict import BoundedListField, ChoiceField, KnownFieldsOnly, StrictBooleanField
from notifications.filters import TYPES
from notifications.models import MAX_URL, Audience, Channel, Delivery, DeliveryAttempt, WebhookEndpoint
from notifications.webhooks.targets import origin_of
from payments.events import EVENT_TYPES
from payments.fields import DescriptionField, WebhookUrlField
from payments.serializers import LinksSerializer

#: Far above the number of event types, of which each counts once.
MAX_EVENT_TYPES: Final = 100


class ChosenListField(BoundedListField):
    """A list in which nothing counts twice."""

    def to_internal_value(self, data: Any) -> list[Any]:
        """The values, each once."""
        return list(dict.fromkeys(super().to_internal_value(data)))


def fault(name: str, message: str, *, code: str) -> serializers.ValidationError:
    """What is wrong with one field."""
    return serializers.ValidationError({name: serializers.ErrorDetail(message, code=code)})


def wanted_types() -> ChosenListField:
    """The field in which an endpoint says what it wants to be told of."""
    return ChosenListField(
        child=ChoiceField(choices=EVENT_TYPES),
        required=False,
        max_length=MAX_EVENT_TYPES,
        help_text="Which events it is told of. Empty or absent: all, also types to come.",
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "registered",
            value={"url": "https://shop.example.com/webhooks", "event_types": ["payment.succeeded", "payment.failed"]},
            request_only=True,
        ),
        OpenApiExample("payment", value={"url": "https://shop.example.com", "kind": "payment"}, request_only=True),
    ]
)
class EndpointRequestSerializer(KnownFieldsOnly, serializers.Serializer[WebhookEndpoint]):
    """A new endpoint."""

    url = WebhookUrlField(max_length=MAX_URL, help_text="https, port 443, on the public internet.")
    kind = ChoiceField(
        choices=WebhookEndpoint.Kind.choices,
        required=False,
        help_text="`registered`: told of all that happens, or of `event_types`. `payment`: the origin of the "
        "`webhook_url`s of payments, made here to have its secret before the first of them.",
    )
    event_types = wanted_types()
    description = DescriptionField(required=False, allow_blank=True, max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One endpoint serves all `webhook_url`s of an origin."""
        if attrs.get("kind") == WebhookEndpoint.Kind.PAYMENT:
            origin = origin_of(attrs["url"])
            if attrs["url"].removesuffix("/").lower() != origin:
                raise fault("url", f"Of the kind `payment`, name the origin alone: {origin}.", code="url_origin")
            attrs["url"] = origin
        return attrs


class EndpointChangeSerializer(KnownFieldsOnly, serializers.Serializer[WebhookEndpoint]):
    """What becomes different; what is absent stays. The context has the `endpoint`."""

    url = WebhookUrlField(required=False, max_length=MAX_URL)
    event_types = wanted_types()
    description = DescriptionField(required=False, allow_blank=True, max_length=200)
    enabled = StrictBooleanField(
        required=False, help_text="Disabling cancels what is under way; enabling begins with what happens from then on."
    )

    def validate_url(self, url: str) -> str:
        """The origin of payments' own addresses is what it is found by."""
        endpoint = self.context["endpoint"]
        if endpoint.kind == WebhookEndpoint.Kind.PAYMENT and url != endpoint.url:
            message = "The URL of an endpoint of the kind `payment` stays as it is: make another one."
            raise serializers.ValidationError(message, code="url_fixed")
        return url


class RedeliverSinceSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """What is delivered again."""

    since = serializers.DateTimeField(help_text="RFC 3339: deliveries that were made at this time or later.")
    all = StrictBooleanField(
        required=False, default=False, help_text="Also what was delivered, not only what failed or was canceled."
    )


class CountSerializer(serializers.Serializer[Any]):
    """How many deliveries begin anew."""

    count = serializers.IntegerField()


class EndpointSerializer(serializers.Serializer[Any]):
    """A webhook endpoint. `notifications.reads.represent_endpoint` makes it."""

    id = serializers.UUIDField(help_text="Time-ordered.")
    object = serializers.CharField(help_text="Always `webhook_endpoint`.")
    mode = ChoiceField(choices=Mode.choices)
    kind = ChoiceField(choices=WebhookEndpoint.Kind.choices)
    url = serializers.CharField()
    description = serializers.CharField()
    event_types = serializers.ListField(child=ChoiceField(choices=EVENT_TYPES), help_text="Empty: all.")
    enabled = serializers.BooleanField()
    disabled_at = serializers.DateTimeField(allow_null=True)
    disabled_reason = serializers.CharField(allow_null=True)
    failing_since = serializers.DateTimeField(
        allow_null=True, help_text="The first failure since the last success; null while all is well."
    )
    last_success_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    previous_secret_until = serializers.DateTimeField(
        allow_null=True, help_text="Until then all is signed with the previous secret as well."
    )
    created_at = serializers.DateTimeField()
    links = LinksSerializer()


class EndpointWithSecretSerializer(EndpointSerializer):
    """A webhook endpoint with its secret, which is not shown again."""

    secret = serializers.CharField(help_text="`whsec_` and base64. Keep it: nobody is shown it again.")


class DeliverySerializer(serializers.Serializer[Any]):
    """One event on its way to one recipient. `notifications.reads.represent_delivery` makes it."""

    id = serializers.UUIDField(help_text="Time-ordered.")
    object = serializers.CharField(help_text="Always `delivery`.")
    mode = ChoiceField(choices=Mode.choices)
    event_id = serializers.UUIDField(help_text="Of webhooks, what the receiver sees as `webhook-id`.")
    event_type = ChoiceField(choices=TYPES)
    payment_id = serializers.UUIDField(allow_null=True)
    channel = ChoiceField(choices=Channel.choices)
    audience = ChoiceField(choices=Audience.choices)
    recipient = serializers.CharField(
        help_text="Masked: `m…@e….com`, `+49…789`, or a URL without the values of its query."
    )
    endpoint_id = serializers.UUIDField(allow_null=True, help_text="Of webhooks.")
    state = ChoiceField(choices=Delivery.State.choices)
    tries = serializers.IntegerField(help_text="Attempts since it was last begun anew.")
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(allow_null=True, help_text="What the last attempt met.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = LinksSerializer()


class AttemptSerializer(serializers.Serializer[Any]):
    """One try, and what came back."""

    number = serializers.IntegerField()
    outcome = ChoiceField(choices=DeliveryAttempt.Outcome.choices)
    status_code = serializers.IntegerField(allow_null=True)
    detail = serializers.CharField(allow_null=True)
    excerpt = serializers.CharField(allow_null=True, help_text="The beginning of the answer, redacted.")
    latency_ms = serializers.IntegerField()
    finished_at = serializers.DateTimeField()


class WholeDeliverySerializer(DeliverySerializer):
    """A delivery with its attempts."""

    attempts = AttemptSerializer(many=True)
