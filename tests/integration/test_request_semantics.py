"""Headers that change what a request means are heeded or refused, and never ignored."""

import json
from uuid import uuid4

import pytest
from django.test import Client

from merchants import api_keys
from merchants.models import Mode, Role
from payments.models import Payment
from payments.problems import catalogue
from tests import doors
from tests.logins import access_of

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db

URL = "/api/v1/payments"
BODY = json.dumps({"amount": "10.00"})


@pytest.fixture
def api_key(merchant):
    key = "sk_test_the-key-of-these-tests"
    api_keys.register_key(key, merchant=merchant, mode=Mode.TEST, name="tests")
    return key


@pytest.fixture
def send(api_key):
    """POST a payment with these headers; None takes a header out."""

    def send(headers=(), *, body=BODY, content_type="application/json", method="post", path=URL):
        given = {"authorization": f"Bearer {api_key}", "idempotency-key": str(uuid4()), **dict(headers)}
        kept = {name: value for name, value in given.items() if value is not None}
        return getattr(Client(), method)(path, body, content_type=content_type, headers=kept)

    return send


def refused(response, status, code):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"] == catalogue()[code].title
    assert not Payment.objects.exists()
    return body


# --- how the body is encoded


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity, chunked", "chunked, chunked", ""])
def test_a_transfer_coding_that_is_not_decoded_is_not_ignored(send, coding):
    refused(send({"transfer-encoding": coding}), 501, "not_implemented")


def test_chunks_are_heeded_by_the_server(send):
    assert send({"transfer-encoding": "Chunked"}).status_code == 202


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
def test_a_content_coding_that_is_not_decoded_is_not_ignored(send, coding):
    response = send({"content-encoding": coding})
    refused(response, 415, "unsupported_media_type")
    assert response["Accept-Encoding"] == "identity"  # RFC 9110, section 15.5.16


@pytest.mark.parametrize("charset", ["utf-16", "UTF-16LE", "latin-1", '"utf-32"', "utf-7"])
def test_an_encoding_of_text_that_the_body_is_not_read_in_is_not_ignored(send, charset):
    body = refused(send(content_type=f"application/json; charset={charset}"), 415, "unsupported_media_type")
    assert "UTF-8" in body["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii"])
def test_the_encoding_of_json_may_be_named(send, charset):
    assert send(content_type=f"application/json; charset={charset}").status_code == 202


def test_half_a_body_is_not_taken_for_a_whole_one(send):
    refused(send({"content-range": "bytes 0-20/100"}), 400, "invalid_request")


@pytest.mark.parametrize("condition", [{"if-match": '"v1"'}, {"if-none-match": "*"}])
def test_a_condition_that_is_not_looked_at_does_not_hold(send, condition):
    body = refused(send(condition), 412, "precondition_failed")
    assert next(iter(condition)) in body["detail"].lower()


def test_a_browsers_condition_does_not_keep_it_from_reading(api_key):
    headers = {"authorization": f"Bearer {api_key}", "if-none-match": '"v1"'}
    assert Client().get(URL, headers=headers).status_code == 200


# --- who is asking


def test_the_same_key_in_both_headers_is_one_credential(send, api_key):
    assert send({"x-api-key": api_key}).status_code == 202
    assert send({"x-api-key": api_key, "authorization": None}).status_code == 202


@pytest.mark.parametrize(
    "authorization",
    ["Bearer sk_test_another", "Basic c2tfdGVzdDo=", "Bearer", "sk_test_another", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"],
)
def test_of_two_different_credentials_neither_silently_wins(send, api_key, authorization):
    refused(send({"x-api-key": api_key, "authorization": authorization}), 400, "credentials_differ")
    refused(send({"x-api-key": "sk_test_another", "authorization": f"Bearer {api_key}"}), 400, "credentials_differ")


def test_a_key_beside_a_session_is_no_way_to_choose_the_merchant(send, api_key, person, merchant):
    user = person({merchant: Role.ADMIN})
    token = access_of(user.memberships.get())
    assert send({"authorization": f"Bearer {token}"}).status_code == 202
    response = send({"authorization": f"Bearer {token}", "x-api-key": api_key})
    assert (response.status_code, response.json()["code"]) == (400, "credentials_differ")


def test_these_requests_go_by_the_door_that_they_say(send, door):
    send()
    assert bool(doors.answered) == (door == "fast")
