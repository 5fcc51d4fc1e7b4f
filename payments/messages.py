"""A `PaymentInitiated` message: the body of `POST /payments`, and what a credential says there: whose, which mode."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings
from django.core.validators import slug_re
from rest_framework import serializers

from merchants.models import Merchant, Mode
from merchants.refusals import Refused
from merchants.strict import ExactCharField, StrictBooleanField
from payments.cards import without_card_numbers
from payments.idempotency import key_of_item
from payments.operations import PaymentRequest
from payments.problems import walk
from payments.serializers import PaymentRequestSerializer, kept_serializer

#: How the sandbox plays a gateway that fails twice, for the time being, and then takes the payment.
TRANSIENT_FAILURE: Final = "pm_flaky_2"
#: Names that are shown as they came. Whatever looks otherwise may be a value that was put in a name's place.
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
#: Fault codes whose own words quote the value -> words that do not.
RETOLD: Final = {"unknown": "This is not a currency that we take; use an ISO 4217 code in capitals, such as EUR."}
#: Where text of people stands, and so perhaps a card number.
FREE_TEXTS: Final = ("description", "payment_method")


class MerchantUnknown(Refused):
    """No merchant has the slug in `merchant`. Mend the slug, or create the merchant and replay this message."""

    code = "merchant_unknown"


class MerchantInactive(Refused):
    """The merchant that `merchant` names is inactive. Activate it and replay this message, or discard it."""

    code = "merchant_inactive"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentInitiated:
    """A valid message."""

    merchant: Merchant
    mode: Mode
    idempotency_key: str
    request: PaymentRequest


class PaymentInitiatedSerializer(PaymentRequestSerializer):
    """The rules of the API's request, and those of the fields that only messages have."""

    not_of_the_operation = (
        *PaymentRequestSerializer.not_of_the_operation,
        *("merchant", "mode", "simulate_transient_failure"),
    )

    merchant = ExactCharField(required=False, allow_null=True)  # `merchant_of` has looked at it
    mode = serializers.ChoiceField(
        choices=Mode.choices,
        required=False,
        allow_null=True,
        error_messages={"invalid_choice": "The mode is `test` or `live`."},
    )
    simulate_transient_failure = StrictBooleanField(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """A failure is simulated by the sandbox alone, and it takes the place of another behaviour."""
        if attrs.get("simulate_transient_failure"):
            if attrs.get("mode") == Mode.LIVE:
                raise field_error("simulate_transient_failure", "Nothing is simulated in live mode.", code="live")
            if attrs.get("payment_method") not in {None, TRANSIENT_FAILURE}:
                message = "It takes the place of a payment_method; leave one of the two out."
                raise field_error("simulate_transient_failure", message, code="conflict")
        return super().validate(attrs)

    def request_of(self, validated: Mapping[str, Any]) -> PaymentRequest:
        """The operation's input: the same as of a request to the API that means the same."""
        request = super().request_of(validated)
        simulated = validated.get("simulate_transient_failure")
        return replace(request, payment_method=TRANSIENT_FAILURE) if simulated else request


def find_merchant(slug: str) -> Merchant | None:
    """The merchant of that name."""
    return Merchant.objects.filter(slug=slug).first()


FindMerchant = Callable[[str], Merchant | None]


def read(document: Any, *, find: FindMerchant = find_merchant) -> PaymentInitiated:
    """The message in a document; `find` knows the merchants.

    Raises:
        Refused: the idempotency key is missing or malformed, or the merchant takes no payments.
        ValidationError: with the faults of each field.
    """
    key = key_of_item(document)
    merchant = merchant_of(document, find=find)
    serializer = kept_serializer(PaymentInitiatedSerializer, merchant=merchant)
    validated = serializer.run_validation(document)
    mode = Mode(validated.get("mode") or Mode.TEST)
    request = serializer.request_of(validated)
    return PaymentInitiated(merchant=merchant, mode=mode, idempotency_key=key, request=request)


def merchant_of(document: Mapping[str, Any], *, find: FindMerchant) -> Merchant:
    """Whose payment it is: who is named, or else the setting's."""
    slug = document.get("merchant")
    slug = settings.INTAKE_DEFAULT_MERCHANT if slug is None else slug
    if slug == "":
        raise field_error("merchant", "Name a merchant: INTAKE_DEFAULT_MERCHANT names none.", code="required")
    named = isinstance(slug, str) and slug_re.fullmatch(slug)
    merchant = find(slug) if named else None
    if merchant is None:
        raise MerchantUnknown
    if not merchant.is_active:
        raise MerchantInactive
    return merchant


def field_error(name: str, message: str, *, code: str) -> serializers.ValidationError:
    """What is wrong with one field."""
    return serializers.ValidationError({name: serializers.ErrorDetail(message, code=code)})


# --- telling what is wrong, without what people have written


def tell(detail: Any) -> str:
    """The faults, field by field, for people; no values."""
    lines = (f"{shown(path)}: {RETOLD.get(fault.code or '', str(fault))}" for path, fault in walk(detail))
    return " ".join(dict.fromkeys(lines))


def shown(path: tuple[str, ...]) -> str:
    """The name of a field; of names inside of it nothing, the sender chose them."""
    if not path:
        return "The message"
    return path[0] if NAME.fullmatch(path[0]) else "A field whose name is not shown here"


def without_cards(document: Any, body: bytes) -> bytes:
    """The body as it may be kept: as it came, or with stars in the place of card numbers (PCI DSS 3.2)."""
    if not isinstance(document, dict):
        return body
    masked = {name: mask(value) if name in (*FREE_TEXTS, "metadata") else value for name, value in document.items()}
    if masked == document:
        return body
    try:
        return json.dumps(masked, default=str).encode()
    except RecursionError:
        return b""  # a card number amid a thousand brackets is nobody's payment


def mask(value: Any) -> Any:
    """Text without card numbers, also one level down."""
    if isinstance(value, dict):
        return {name: mask(inner) if isinstance(inner, str) else inner for name, inner in value.items()}
    return without_card_numbers(value) if isinstance(value, str) else value
