"""What merchants send about payers and about who is told what, checked; and what they get."""

from typing import Any, ClassVar, Final

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from merchants.models import Mode
from merchants.strict import ChoiceField, ExactEmailField, KnownFieldsOnly
from notifications.models import Audience, Channel
from notifications.notices import FOR_MERCHANTS, FOR_PAYERS
from notifications.preferences import About
from notifications.serializers import MAX_EVENT_TYPES, ChosenListField
from payments.fields import PhoneField
from payments.serializers import LinksSerializer

#: Of a merchant's own people, by each channel: a mailing list has room for more.
MOST_ADDRESSES: Final = 10


class ContactRequestSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """All that is to be known of a payer; what is absent, null or empty is forgotten."""

    email = ExactEmailField(required=False, allow_null=True, allow_blank=True, max_length=254)
    phone = PhoneField(required=False, allow_null=True, allow_blank=True, help_text="E.164.")
    language = ChoiceField(
        choices=settings.LANGUAGES,
        required=False,
        allow_null=True,
        allow_blank=True,
        help_text="Absent: the merchant's.",
    )

    def to_fields(self) -> dict[str, str]:
        """The operation's input, after `is_valid`."""
        return {name: self.validated_data.get(name) or "" for name in ("email", "phone", "language")}


class ContactSerializer(serializers.Serializer[Any]):
    """How a payer is reached. `notifications.reads.represent_contact` makes it."""

    object = serializers.CharField(help_text="Always `contact`.")
    mode = ChoiceField(choices=Mode.choices)
    user_id = serializers.CharField(help_text="The payer in your own system.")
    email = serializers.EmailField(allow_null=True)
    phone = serializers.CharField(allow_null=True)
    language = ChoiceField(choices=settings.LANGUAGES, allow_null=True)
    updated_at = serializers.DateTimeField()
    links = LinksSerializer()


def told_types(kinds: tuple[str, ...]) -> ChosenListField:
    """The field in which events are chosen."""
    return ChosenListField(
        child=ChoiceField(choices=[str(kind) for kind in kinds]),
        required=False,
        max_length=MAX_EVENT_TYPES,
        help_text="Empty: none.",
    )


def addresses_of(field: serializers.Field[Any, Any, Any, Any]) -> ChosenListField:
    """The field for the addresses of a merchant's own people."""
    return ChosenListField(child=field, required=False, max_length=MOST_ADDRESSES)


class PayerWishSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Of which events payers are told."""

    event_types = told_types(FOR_PAYERS)


class MailWishSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Of which events the merchant's own people are told by mail, and where."""

    event_types = told_types(FOR_MERCHANTS)
    addresses = addresses_of(ExactEmailField(max_length=254))


class SmsWishSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Of which events the merchant's own people are told by SMS, and where."""

    event_types = told_types(FOR_MERCHANTS)
    addresses = addresses_of(PhoneField())


class MailWishesSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Who is told what by mail."""

    payer = PayerWishSerializer(required=False)
    merchant = MailWishSerializer(required=False)


class SmsWishesSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Who is told what by SMS."""

    payer = PayerWishSerializer(required=False)
    merchant = SmsWishSerializer(required=False)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "receipts in German, and a mail to us when one fails",
            value={
                "email": {"merchant": {"event_types": ["payment.failed"], "addresses": ["pay@shop.example.com"]}},
                "language": "de",
            },
            request_only=True,
        )
    ]
)
class PreferencesSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Who is told what, in both modes. What a request leaves out stays as it is."""

    channels: ClassVar = (Channel.EMAIL, Channel.SMS)

    email = MailWishesSerializer(required=False)
    sms = SmsWishesSerializer(required=False)
    language = ChoiceField(
        choices=settings.LANGUAGES, required=False, help_text="In which payers are written to whose own is not known."
    )
    contact_email = ExactEmailField(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=254,
        help_text="Where we write to you, such as of an endpoint that fails. Empty or null: to your administrators.",
    )

    def to_wishes(self) -> dict[About, dict[str, list[str]]]:
        """What changes about each channel and audience, after `is_valid`."""
        return {
            (channel.value, audience.value): changes
            for channel in self.channels
            for audience in Audience
            if (changes := self.validated_data.get(channel.value, {}).get(audience.value))
        }

    def to_fields(self) -> dict[str, str]:
        """What changes about the merchant itself, after `is_valid`."""
        named = {
            name: self.validated_data[name] for name in ("language", "contact_email") if name in self.validated_data
        }
        return {name: value or "" for name, value in named.items()}
