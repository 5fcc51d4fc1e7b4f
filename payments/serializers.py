"""What clients send, checked; and what they get, described for the API's documentation."""

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeVar, cast

from django.core.validators import URLValidator
from django.utils.functional import cached_property
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema_serializer
from rest_framework import serializers
from rest_framework.fields import empty

from merchants.characters import find_identifier_fault
from merchants.models import Merchant, Mode
from merchants.strict import ExactCharField, ExactEmailField, IdentifierField, KnownFieldsOnly
from payments.events import EVENT_TYPES
from payments.fields import (
    AmountField,
    CardFreeCharField,
    CurrencyField,
    DescriptionField,
    MetadataField,
    PhoneField,
    TokenField,
    WebhookUrlField,
)
from payments.money import EXPONENTS, MAX_MINOR_UNITS, OutOfRange, TooManyDecimals, to_major_units, to_minor_units
from payments.operations import PaymentRequest
from payments.states import Status

MAX_METADATA_NAME_CHARACTERS: Final = 40
IDENTIFIER_RULE: Final = (
    "Compared and stored in Unicode NFC. Control, format and invisible characters, spaces other than U+0020, and "
    "spaces at either end are refused."
)


@extend_schema_serializer(
    examples=[
        OpenApiExample(name, value={"amount": "10.00", "currency": "EUR", "payment_method": name}, request_only=True)
        for name in ("pm_ok", "pm_declined", "pm_flaky_2", "pm_down", "pm_timeout_charged")
    ]
)
class PaymentRequestSerializer(KnownFieldsOnly, serializers.Serializer[PaymentRequest]):
    """A wish to be paid. Only `amount` is required; null counts as absent."""

    not_of_the_operation: ClassVar[tuple[str, ...]] = ("capture", "idempotency_key")

    amount = AmountField(help_text="Major units; at most as many decimals as the currency has.")
    currency = CurrencyField(required=False, allow_null=True, help_text="ISO 4217; default: the merchant's own.")
    order_id = IdentifierField(
        required=False,
        allow_null=True,
        max_length=255,
        help_text=f"Your order; it is charged at most once. {IDENTIFIER_RULE}",
    )
    user_id = IdentifierField(
        required=False, allow_null=True, max_length=255, help_text=f"The payer in your own system. {IDENTIFIER_RULE}"
    )
    description = DescriptionField(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=1000,
        help_text="Kept as it is sent. Control and format characters are refused, but for tabs and line breaks.",
    )
    metadata = MetadataField(
        child=CardFreeCharField(max_length=500, allow_blank=True),
        required=False,
        allow_null=True,
        help_text="At most 50 pairs of strings, for your own use. Names have 1 to 40 visible characters, without "
        "spaces at either end; values are kept as they are sent.",
    )
    payment_method = TokenField(
        required=False,
        allow_null=True,
        max_length=255,
        help_text="The gateway's token. In test mode, default pm_ok. Invisible characters, and spaces at either end, "
        "are refused.",
    )
    capture = serializers.ChoiceField(
        choices=["automatic"],
        required=False,
        allow_null=True,
        help_text="Only automatic capture is offered so far.",
        error_messages={"invalid_choice": "Only `automatic` capture is offered so far; leave the field out."},
    )
    webhook_url = WebhookUrlField(
        required=False,
        allow_null=True,
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"], message="Send an address that begins with https://.")],
        help_text="Called with every event of this payment, signed: see the documentation of webhooks.",
    )
    receipt_email = ExactEmailField(
        required=False, allow_null=True, max_length=254, help_text="Where the payer is told by mail. Never shown again."
    )
    receipt_phone = PhoneField(
        required=False, allow_null=True, help_text="Where the payer is told by SMS; E.164. Never shown again."
    )
    idempotency_key = ExactCharField(
        required=False, allow_null=True, max_length=257, help_text="In place of the header `Idempotency-Key`."
    )

    @cached_property
    def readers(self) -> list[tuple[str, Any, Any]]:
        """Each field, and what else it has to pass."""
        return [(name, field, getattr(self, f"validate_{name}", None)) for name, field in self.fields.items()]

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """What is given, checked. As the parent does for all that a serializer may have; here no field is another's
        part, or has a default, and most are not given.
        """
        if not isinstance(data, dict):
            return cast("dict[str, Any]", super().to_internal_value(data))
        validated: dict[str, Any] = {}
        faults: dict[str, Any] = {}
        for name, field, check in self.readers:
            if name not in data and not field.required:
                continue
            try:
                value = field.run_validation(data.get(name, empty))
                validated[name] = check(value) if check else value
            except serializers.ValidationError as fault:
                faults[name] = fault.detail
        if faults:
            raise serializers.ValidationError(faults)
        return validated

    def validate_metadata(self, value: dict[str, str] | None) -> dict[str, str] | None:
        """Refuse names that are empty, too long or have characters that a name must not contain."""
        for name in value or ():
            if not 0 < len(name) <= MAX_METADATA_NAME_CHARACTERS:
                raise serializers.ValidationError("Names have 1 to 40 printable characters.", code="invalid_name")
            if fault := find_identifier_fault(name):
                raise serializers.ValidationError(f"In a name: {fault.message}", code="invalid_name")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The amount, in the light of its currency, becomes minor units."""
        currency = attrs.get("currency") or self.context["merchant"].currency
        if currency not in EXPONENTS:
            message = f"Name a currency: your account's own, {currency}, is none that we take."
            raise serializers.ValidationError({"currency": serializers.ErrorDetail(message, code="required")})
        attrs["currency"] = currency
        try:
            attrs["amount"] = to_minor_units(attrs["amount"], currency)
        except TooManyDecimals:
            message = f"{currency} has {EXPONENTS[currency]} decimals; this amount has more."
            raise serializers.ValidationError({"amount": serializers.ErrorDetail(message, code="decimals")}) from None
        except OutOfRange:
            message = f"An amount is above 0 and at most {to_major_units(MAX_MINOR_UNITS, currency)} {currency}."
            raise serializers.ValidationError({"amount": serializers.ErrorDetail(message, code="range")}) from None
        return attrs

    def request_of(self, validated: Mapping[str, Any]) -> PaymentRequest:
        """The operation's input, out of what `run_validation` returns."""
        given = {name: value for name, value in validated.items() if value is not None}
        for name in self.not_of_the_operation:
            given.pop(name, None)
        return PaymentRequest(**given)


S = TypeVar("S", bound=PaymentRequestSerializer)


class Kept(threading.local):
    """Serializers by their kind, and what each knows of the request at hand; for each thread its own."""

    def __init__(self) -> None:
        self.made: dict[type[Any], tuple[Any, dict[str, Any]]] = {}


#: Copying the fields for each request costs as much as checking them.
kept: Final = Kept()


def request_in(data: Any, *, merchant: Merchant) -> PaymentRequest:
    """What a body asks for. Raises ValidationError."""
    if data is None:  # has words of its own
        PaymentRequestSerializer(data=None).is_valid(raise_exception=True)
    serializer = kept_serializer(PaymentRequestSerializer, merchant=merchant)
    return serializer.request_of(serializer.run_validation(data))


def kept_serializer(kind: type[S], *, merchant: Merchant) -> S:
    """The serializer of this kind that this thread has, for a request to a merchant. It is to be asked by
    `run_validation` alone, which leaves nothing behind in it.
    """
    if kind not in kept.made:
        context: dict[str, Any] = {}
        kept.made[kind] = (kind(context=context), context)
    serializer, context = kept.made[kind]
    context["merchant"] = merchant
    return cast("S", serializer)


class LastErrorSerializer(serializers.Serializer[Any]):
    """Why a payment failed, or what its last attempt met."""

    code = serializers.CharField()
    decline_code = serializers.CharField(allow_null=True)
    advice = serializers.CharField(help_text="What you or the payer can do about it.")
    detail = serializers.CharField()


class LinksSerializer(serializers.Serializer[Any]):
    """Where to go from here."""

    self = serializers.CharField()


class PaymentSerializer(serializers.Serializer[Any]):
    """A payment; amounts are in major units. `payments.reads.represent` makes it."""

    id = serializers.UUIDField(help_text="Time-ordered.")
    object = serializers.CharField(help_text="Always `payment`.")
    mode = serializers.ChoiceField(choices=Mode.choices)
    status = serializers.ChoiceField(choices=Status.choices)
    amount = serializers.CharField()
    currency = serializers.CharField()
    amount_captured = serializers.CharField()
    amount_refunded = serializers.CharField()
    order_id = serializers.CharField(allow_null=True)
    user_id = serializers.CharField(allow_null=True)
    description = serializers.CharField(allow_null=True)
    metadata = serializers.DictField(child=serializers.CharField())
    payment_method = serializers.CharField()
    attempts = serializers.IntegerField(help_text="Charges sent to the gateway.")
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    last_error = LastErrorSerializer(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = LinksSerializer()


class SnapshotSerializer(PaymentSerializer):
    """A payment as it was right after an event."""

    schema = serializers.IntegerField(help_text="The version of this shape; grows when a field changes its meaning.")


class EventSerializer(serializers.Serializer[Any]):
    """What happened to a payment. `payments.reads.represent_event` makes it."""

    id = serializers.UUIDField(help_text="Time-ordered.")
    object = serializers.CharField(help_text="Always `event`.")
    type = serializers.ChoiceField(choices=EVENT_TYPES)
    version = serializers.IntegerField(help_text="The payment's version that this made: 1, 2, 3 and so on.")
    payment_id = serializers.UUIDField()
    created_at = serializers.DateTimeField()
    request_id = serializers.CharField(allow_null=True, help_text="`X-Request-ID` of the request that it goes back to.")
    data = SnapshotSerializer()  # type: ignore[assignment]  # the member has this name


class ProblemErrorSerializer(serializers.Serializer[Any]):
    """One thing that is wrong with a request."""

    pointer = serializers.CharField(required=False, help_text="JSON Pointer (RFC 6901) into the body.")
    parameter = serializers.CharField(required=False, help_text="Name of the query parameter.")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """An error, as `application/problem+json` (RFC 9457)."""

    type = serializers.URLField(help_text="A page that explains the error and its mend.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField()
    errors = ProblemErrorSerializer(many=True)  # type: ignore[assignment]  # the member has this name
    retryable = serializers.BooleanField(help_text="Whether the same request may succeed later.")
    payment_id = serializers.UUIDField(allow_null=True, help_text="The payment that stands in the way.")
    request_id = serializers.CharField()


def problems(*codes: int) -> dict[tuple[int, str], Any]:
    """The documentation of error responses."""
    return {(code, "application/problem+json"): OpenApiResponse(ProblemSerializer) for code in codes}
