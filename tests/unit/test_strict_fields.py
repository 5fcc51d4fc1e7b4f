"""Fields of requests keep what was sent or refuse it: nothing is trimmed or made another type."""

import uuid
from decimal import Decimal

import pytest
from rest_framework import serializers
from rest_framework.settings import api_settings

from console.serializers import DecisionSerializer
from merchants.api_key_views import ApiKeyRequestSerializer, RevocationSerializer
from merchants.strict import (
    ExactCharField,
    ExactEmailField,
    NameField,
    StrictBooleanField,
    StrictIntegerField,
    StrictUUIDField,
)
from notifications.people_serializers import ContactRequestSerializer, PreferencesSerializer
from notifications.serializers import EndpointChangeSerializer, EndpointRequestSerializer, RedeliverSinceSerializer
from payments.batch_views import BatchRequestSerializer
from payments.messages import PaymentInitiatedSerializer
from payments.serializers import PaymentRequestSerializer

#: Every serializer that reads a request or a message, but those of logins, which store nothing.
REQUESTS = [
    *(PaymentRequestSerializer, PaymentInitiatedSerializer, BatchRequestSerializer, EndpointRequestSerializer),
    *(EndpointChangeSerializer, RedeliverSinceSerializer, ContactRequestSerializer, PreferencesSerializer),
    *(ApiKeyRequestSerializer, RevocationSerializer, DecisionSerializer),
]
#: Kinds of fields that change what they read -> the kind that does not.
LENIENT = {
    serializers.CharField: ExactCharField,
    serializers.BooleanField: StrictBooleanField,
    serializers.IntegerField: StrictIntegerField,
    serializers.UUIDField: StrictUUIDField,
}


def fields_of(field):
    """A field and all that are part of it."""
    yield field
    parts = list(field.fields.values()) if isinstance(field, serializers.Serializer) else []
    for part in [*parts, *([field.child] if hasattr(field, "child") else [])]:
        yield from fields_of(part)


@pytest.mark.parametrize("kind", REQUESTS)
def test_no_field_of_a_request_changes_what_it_reads(kind):
    for field in fields_of(kind()):
        for lenient, strict in LENIENT.items():
            assert not isinstance(field, lenient) or isinstance(field, strict), field
        assert getattr(field, "trim_whitespace", False) is False, field


def refusal_of(field, value):
    with pytest.raises(serializers.ValidationError) as raised:
        field.run_validation(value)
    return raised.value.detail[0].code


@pytest.mark.parametrize("text", [" a ", "a\n", "\u00a0a", "a", "1"])
def test_a_text_is_kept_as_it_is(text):
    assert ExactCharField().run_validation(text) == text


@pytest.mark.parametrize("value", [1, 1.5, Decimal("1.5"), True, [], {}])
def test_a_text_is_made_of_nothing_else(value):
    assert refusal_of(ExactCharField(), value) == "invalid"


@pytest.mark.parametrize("value", ["", " ", "\n\t"])
def test_white_space_alone_is_no_text(value):
    assert refusal_of(ExactCharField(), value) == "blank"


@pytest.mark.parametrize("value", [" max@example.com", "max@example.com ", "max@example.com\n"])
def test_an_address_is_not_trimmed(value):
    assert refusal_of(ExactEmailField(), value) == "invalid"


@pytest.mark.parametrize("value", ["true", "off", "n", "yes", "on", "", 0, 1, 1.0, Decimal(1), [], {}])
def test_only_json_booleans_are_booleans(value):
    assert refusal_of(StrictBooleanField(), value) == "invalid"
    assert StrictBooleanField().run_validation(data=True) is True
    assert StrictBooleanField().run_validation(data=False) is False


@pytest.mark.parametrize("value", ["1", "", True, 1.0, Decimal("1.0")])
def test_only_json_numbers_are_numbers(value):
    assert refusal_of(StrictIntegerField(), value) == "invalid"
    assert StrictIntegerField().run_validation(1) == 1


def test_a_number_is_no_uuid():
    assert refusal_of(StrictUUIDField(), 5) == "invalid"
    assert StrictUUIDField().run_validation(str(uuid.UUID(int=5))) == uuid.UUID(int=5)


@pytest.mark.parametrize("value", ["a\u200bb", " a", "a\tb"])
def test_a_name_is_in_one_line_of_visible_characters(value):
    assert refusal_of(NameField(), value) in {"character", "surrounding_space"}


def test_requests_are_read_as_json_alone():
    assert all("json" in parser.media_type for parser in api_settings.DEFAULT_PARSER_CLASSES)
