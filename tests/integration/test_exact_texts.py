"""What a request says is stored as it was sent or refused, by API and by message alike."""

import json

import pytest
from django.conf import settings

from messaging.consumer import Delivery
from messaging.models import DeadLetter
from payments import intake
from payments.models import Payment

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db

PADDED = {"description": " two  words\n", "metadata": {"note": "\tpadded "}}
#: Values that were trimmed or converted before: field -> value and code.
REFUSED = {
    "padded token": ("payment_method", " pm_ok", "surrounding_space"),
    "token with an invisible character": ("payment_method", "pm_\u200bok", "character"),
    "padded currency": ("currency", "EUR ", "unknown"),
    "padded address": ("receipt_email", "max@example.com ", "invalid"),
    "padded phone number": ("receipt_phone", " +4915123456789", "phone"),
    "padded URL": ("webhook_url", " https://shop.example.com/hook", "invalid"),
    "order as a number": ("order_id", 7, "invalid"),
    "payer as a number": ("user_id", 7, "invalid"),
    "currency as a number": ("currency", 978, "invalid"),
}


@pytest.fixture(autouse=True)
def _default_merchant(settings, merchant):
    settings.INTAKE_DEFAULT_MERCHANT = merchant.slug


def receive(key="key-1", **fields):
    """Hand one message to intake."""
    body = json.dumps({"idempotency_key": key, "amount": "10.00", **fields}).encode()
    intake.receive(Delivery(queue=settings.INTAKE_QUEUE, body=body, message_id="", headers={}, correlation_id=""))


def assert_kept_as_sent():
    payment = Payment.objects.get()
    assert (payment.description, payment.metadata) == (PADDED["description"], PADDED["metadata"])


def test_texts_are_kept_as_they_were_sent_by_the_api(post):
    answer = post({"amount": "10.00", **PADDED}).json()
    assert (answer["description"], answer["metadata"]) == (PADDED["description"], PADDED["metadata"])
    assert_kept_as_sent()


def test_texts_are_kept_as_they_were_sent_by_message():
    receive(**PADDED)
    assert_kept_as_sent()


@pytest.mark.parametrize("trimmed", [{"description": "two  words"}, {"metadata": {"note": "padded"}}])
def test_a_request_with_other_white_space_is_another_request(post, trimmed):
    assert post({"amount": "10.00", **PADDED}).status_code == 202
    answer = post({"amount": "10.00", **PADDED, **trimmed})
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(("name", "value", "code"), REFUSED.values(), ids=REFUSED)
def test_what_would_have_to_be_changed_is_refused(post, name, value, code):
    answer = post({"amount": "10.00", name: value})
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["pointer"], error["code"]) == (400, f"/{name}", code)
    receive(**{name: value})
    letter = DeadLetter.objects.get()
    assert letter.cause == "invalid"
    assert letter.detail.startswith(f"{name}: ")
    assert not Payment.objects.exists()


@pytest.mark.parametrize("value", ["off", "n", "yes", "true", "", 0, 1])
def test_a_message_has_json_booleans_only(value):
    receive(simulate_transient_failure=value)
    details = [letter.detail for letter in DeadLetter.objects.all()]
    assert details == ["simulate_transient_failure: This must be true or false, a JSON boolean without quotes."]
    receive(key="key-2", simulate_transient_failure=False)
    assert Payment.objects.get().payment_method == "pm_ok"


@pytest.mark.parametrize("value", ["yes", 1, "true"])
def test_the_api_has_json_booleans_only(client, value):
    body = {"since": "2026-11-21T00:00:00Z", "all": value}
    endpoint = client.post(
        "/api/v1/webhook-endpoints", {"url": "https://shop.example.com/"}, content_type="application/json"
    ).json()
    address = f"{endpoint['links']['self']}/redeliver"
    answer = client.post(address, body, content_type="application/json", headers={"Idempotency-Key": "key-1"})
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["pointer"], error["code"]) == (400, "/all", "invalid")


@pytest.mark.parametrize("key", [5, " key-1 "])
def test_a_key_in_a_body_is_not_changed(post, key):
    answer = post({"amount": "10.00", "idempotency_key": key}, key=None)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    receive(key=key)
    assert DeadLetter.objects.get().cause == "idempotency_key_invalid"
