"""What a request may say is read as Django REST framework would read it, in a third of the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.fields import empty

from merchants.models import Merchant
from payments.messages import PaymentInitiatedSerializer
from payments.serializers import PaymentRequestSerializer

KINDS = [PaymentRequestSerializer, PaymentInitiatedSerializer]
NAMES = [*sorted({name for kind in KINDS for name in kind().fields}), "unknown"]
SOUND = [
    *("10.00", 5, "EUR", "order-1", "customer@example.com", "+4915123456789", "https://shop.example/hook"),
    *("automatic", "pm_ok", "", " padded ", True, {"a": "b"}),
]
ODD = [None, "4111 1111 1111 1111", "x" * 300, "\x00", "\ud800", -1, 1.5, [], {"a": 1}, {"": "x"}, "javascript:x"]
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*SOUND, *ODD]) | st.text(max_size=8), max_size=8)


def outcome_of(read, document):
    try:
        return read(document)
    except serializers.ValidationError as fault:
        return {"faults": fault.get_full_details()}


def as_the_framework_does(serializer, data):
    return serializers.Serializer.to_internal_value(serializer, data)


@pytest.mark.parametrize("kind", KINDS)
@given(document=DOCUMENTS | st.sampled_from([[], "text", 1, True]))
def test_it_reads_as_the_framework_does(kind, document):
    serializer = kind(context={"merchant": Merchant(currency="EUR")})
    framework = outcome_of(lambda data: as_the_framework_does(serializer, data), document)
    assert outcome_of(serializer.to_internal_value, document) == framework
    assert list(framework) == list(outcome_of(serializer.to_internal_value, document))


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_needs_what_it_leaves_out(kind):
    for name, field in kind().fields.items():
        assert (field.source, field.default, field.read_only) == (name, empty, False)
