"""`/notification-preferences`: one document, of which a request changes what it names."""

import pytest

from merchants.models import Merchant, Mode, Scope
from notifications.models import Preference
from notifications.notices import FOR_MERCHANTS, FOR_PAYERS
from notifications.people_serializers import PreferencesSerializer
from notifications.preferences import wishes_of
from tests.notifying import client_for

URL = "/api/v1/notification-preferences"
#: What holds for a merchant that has said nothing.
AT_FIRST = {
    "email": {"payer": {"event_types": ["payment.succeeded"]}, "merchant": {"event_types": [], "addresses": []}},
    "sms": {"payer": {"event_types": ["payment.succeeded"]}, "merchant": {"event_types": [], "addresses": []}},
    "language": "en",
    "contact_email": None,
}

pytestmark = pytest.mark.django_db


def put(client, body):
    return client.put(URL, body, content_type="application/json")


def ok(response):
    assert response.status_code == 200, response.content
    return response.json()


def problem(response, status, code):
    assert response["Content-Type"] == "application/problem+json", response.content
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    return response.json()


def test_a_merchant_that_said_nothing_sees_the_defaults(client):
    assert ok(client.get(URL)) == AT_FIRST
    assert list(AT_FIRST) == list(PreferencesSerializer().fields)


def test_what_a_request_leaves_out_stays_as_it_is(client, merchant):
    people = {"event_types": ["payment.failed"], "addresses": ["a@shop.example", "b@shop.example"]}
    whole = {
        "email": {"payer": {"event_types": ["payment.failed", "payment.succeeded"]}, "merchant": people},
        "sms": {"payer": {"event_types": []}, "merchant": {**people, "addresses": ["+4915123456789"]}},
        "language": "de",
        "contact_email": "us@shop.example",
    }
    shown = ok(put(client, whole))
    assert shown == {
        **whole,
        "email": {**whole["email"], "payer": {"event_types": ["payment.succeeded", "payment.failed"]}},
    }
    assert ok(put(client, {})) == shown
    parts = [
        {"sms": {"merchant": {"addresses": []}}},
        {"email": {"merchant": {"event_types": ["payment.unknown"]}}},
        {"email": {"payer": {"event_types": []}}},
        {"language": "en"},
        {"contact_email": None},
    ]
    for part in parts:
        shown = merged(shown, part)
        assert ok(put(client, part)) == ok(client.get(URL)) == shown
    wish = wishes_of([merchant.pk])[merchant.pk]["email", "merchant"]
    assert (wish.event_types, wish.addresses) == (frozenset({"payment.unknown"}), tuple(people["addresses"]))


def merged(document, part):
    """The document with what the part names in the place of its own."""
    if not isinstance(part, dict):
        return part
    return {**document, **{name: merged(document[name], inner) for name, inner in part.items()}}


def test_the_first_half_of_a_wish_keeps_the_default_of_the_other(client):
    ok(put(client, {"email": {"merchant": {"addresses": ["a@shop.example"]}}}))
    assert ok(client.get(URL))["email"]["merchant"] == {"event_types": [], "addresses": ["a@shop.example"]}
    assert Preference.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"email": {"payer": {"event_types": ["payment.unknown"]}}}, "/email/payer/event_types", "invalid_choice"),
        (
            {"email": {"merchant": {"event_types": ["payment.created"]}}},
            "/email/merchant/event_types",
            "invalid_choice",
        ),
        ({"email": {"payer": {"addresses": ["a@b.example"]}}}, "/email/payer/addresses", "unknown_field"),
        ({"email": {"merchant": {"addresses": ["+4915123456789"]}}}, "/email/merchant/addresses", "invalid"),
        ({"sms": {"merchant": {"addresses": ["a@b.example"]}}}, "/sms/merchant/addresses", "phone"),
        (
            {"email": {"merchant": {"addresses": [f"a{number}@b.example" for number in range(11)]}}},
            "/email/merchant/addresses",
            "max_length",
        ),
        ({"email": {"merchant": None}}, "/email/merchant", "null"),
        ({"language": "tlh"}, "/language", "invalid_choice"),
        ({"language": None}, "/language", "null"),
        ({"contact_email": "us"}, "/contact_email", "invalid"),
        ({"push": {}}, "/push", "unknown_field"),
        ({"email": {"staff": {}}}, "/email/staff", "unknown_field"),
    ],
    ids=lambda value: None if isinstance(value, str) else "body",
)
def test_what_is_malformed_is_named_and_changes_nothing(client, body, pointer, code):
    fault = problem(put(client, {"language": "de", **body}), 400, "invalid_request")["errors"][0]
    assert (fault["pointer"].removesuffix("/0"), fault["code"]) == (pointer, code)
    assert ok(client.get(URL)) == AT_FIRST


def test_ten_addresses_are_taken_and_none_counts_twice(client):
    ten = [f"a{number}@b.example" for number in range(10)]
    assert ok(put(client, {"email": {"merchant": {"addresses": ten}}}))["email"]["merchant"]["addresses"] == ten
    twice = {"email": {"merchant": {"addresses": ["a@b.example", "a@b.example"]}}}
    assert ok(put(client, twice))["email"]["merchant"]["addresses"] == ["a@b.example"]


def test_whatever_can_be_told_can_be_chosen(client):
    body = {
        channel: {"payer": {"event_types": list(FOR_PAYERS)}, "merchant": {"event_types": list(FOR_MERCHANTS)}}
        for channel in ("email", "sms")
    }
    shown = ok(put(client, body))
    assert {channel: merged(shown[channel], body[channel]) for channel in body} == {name: shown[name] for name in body}


def test_no_merchant_changes_what_another_wants(client, other_merchant):
    ok(put(client, {"email": {"payer": {"event_types": []}}, "language": "de"}))
    assert ok(client_for(other_merchant).get(URL)) == AT_FIRST
    assert Merchant.objects.get(slug="other").language == "en"


def test_both_modes_have_the_same_preferences(client, merchant):
    shown = ok(put(client, {"language": "de"}))
    assert ok(client_for(merchant, Mode.LIVE).get(URL)) == shown


def test_a_key_without_the_scope_gets_and_changes_nothing(merchant):
    reader = client_for(merchant, scopes=[Scope.NOTIFICATIONS_READ, Scope.WEBHOOKS_WRITE])
    writer = client_for(merchant, scopes=[Scope.NOTIFICATIONS_WRITE])
    problem(put(reader, {"language": "de"}), 403, "forbidden")
    assert ok(reader.get(URL)) == AT_FIRST
    ok(put(writer, {"language": "de"}))
    problem(writer.get(URL), 403, "forbidden")
