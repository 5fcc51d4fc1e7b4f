"""Orders and payers that look the same are the same, by API, by batch and by message."""

import json
import unicodedata
from dataclasses import replace

import pytest
from django.conf import settings
from django.urls import reverse

from merchants.models import Mode
from messaging.consumer import Delivery
from messaging.models import DeadLetter
from notifications.admin.audience import ContactForm
from notifications.models import Contact
from payments import intake
from payments.models import Payment
from tests.unmatched import entry_of, record

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db

URL = "/api/v1/payments"
NFC = unicodedata.normalize("NFC", "café-1")
NFD = unicodedata.normalize("NFD", "café-1")
REFUSED = {
    "byte order mark": ("\ufeffcafe", "Character 1 is U+FEFF ZERO WIDTH NO-BREAK SPACE"),
    "zero width space": ("ca\u200bfe", "Character 3 is U+200B ZERO WIDTH SPACE"),
    "direction mark": ("cafe\u200e", "Character 5 is U+200E LEFT-TO-RIGHT MARK"),
    "soft hyphen": ("ca\u00adfe", "Character 3 is U+00AD SOFT HYPHEN"),
    "no-break space": ("ca\u00a0fe", "Character 3 is U+00A0 NO-BREAK SPACE"),
    "control character": ("cafe\u0007", "Character 5 is U+0007 CONTROL CHARACTER"),
    "leading space": (" cafe", "Character 1 is a space"),
    "trailing space": ("cafe ", "Character 5 is a space"),
}


@pytest.fixture(autouse=True)
def _default_merchant(settings, merchant):
    settings.INTAKE_DEFAULT_MERCHANT = merchant.slug


def receive(key, **fields):
    """Hand one message to intake."""
    body = json.dumps({"idempotency_key": key, "amount": "10.00", **fields}).encode()
    intake.receive(Delivery(queue=settings.INTAKE_QUEUE, body=body, message_id="", headers={}, correlation_id=""))


def test_an_order_in_two_unicode_forms_is_one_order_by_the_api(post):
    assert post({"amount": "10.00", "order_id": NFD}, key="key-1").json()["order_id"] == NFC
    answer = post({"amount": "10.00", "order_id": NFC}, key="key-2")
    assert (answer.status_code, answer.json()["code"]) == (409, "order_payment_active")
    assert Payment.objects.get().order_id == NFC


def test_a_request_in_two_unicode_forms_is_one_request(post):
    first = post({"amount": "10.00", "order_id": NFD, "user_id": NFD})
    again = post({"amount": "10.00", "order_id": NFC, "user_id": NFC})
    assert (again.status_code, again.content) == (202, first.content)
    assert again["Idempotent-Replayed"] == "true"


def test_an_order_in_two_unicode_forms_is_one_order_by_batch(client):
    items = [
        {"amount": "10.00", "order_id": order, "idempotency_key": f"key-{number}"}
        for number, order in enumerate((NFD, NFC))
    ]
    answer = client.post(f"{URL}/batch", {"payments": items}, content_type="application/json").json()
    assert [result["status"] for result in answer["results"]] == [202, 409]


def test_an_order_in_two_unicode_forms_is_one_order_by_message_and_api(post):
    receive("key-1", order_id=NFD, user_id=NFD)
    assert DeadLetter.objects.count() == 0
    receive("key-2", order_id=NFC)
    assert [letter.cause for letter in DeadLetter.objects.all()] == ["order_payment_active"]
    assert post({"amount": "10.00", "order_id": NFC}, key="key-3").status_code == 409
    payment = Payment.objects.get()
    assert (payment.order_id, payment.user_id) == (NFC, NFC)


@pytest.mark.parametrize("name", ["order_id", "user_id"])
@pytest.mark.parametrize(("text", "fault"), REFUSED.values(), ids=REFUSED)
def test_an_identifier_with_an_invisible_character_is_refused(post, name, text, fault):
    refusal = post({"amount": "10.00", name: text})
    assert refusal.status_code == 400
    [error] = refusal.json()["errors"]
    assert error["pointer"] == f"/{name}"
    assert error["detail"].startswith(fault)
    receive("key-2", **{name: text})
    letter = DeadLetter.objects.get()
    assert letter.cause == "invalid"
    assert f"{name}: {fault}" in letter.detail
    assert not Payment.objects.exists()


def test_texts_that_hide_or_reorder_characters_are_refused(post):
    body = {"amount": "10.00", "description": "a\u202eb", "metadata": {"ke\u200by": "x"}}
    errors = post(body).json()["errors"]
    assert {(error["pointer"], error["code"]) for error in errors} == {
        ("/description", "character"),
        ("/metadata", "invalid_name"),
    }
    assert "Character 2 is U+202E RIGHT-TO-LEFT OVERRIDE" in errors[0]["detail"]
    assert "Character 3 is U+200B ZERO WIDTH SPACE" in errors[1]["detail"]
    assert post({"amount": "10.00", "description": "two\r\n\tlines"}).status_code == 202


@pytest.mark.parametrize("name", ["order_id", "user_id"])
def test_a_filter_compares_in_nfc_and_refuses_what_is_never_stored(client, post, name):
    post({"amount": "10.00", name: NFC})
    assert len(client.get(URL, {name: NFD}).json()["results"]) == 1
    refusal = client.get(URL, {name: f" {NFC}"})
    [error] = refusal.json()["errors"]
    assert (refusal.status_code, error["parameter"], error["code"]) == (400, name, "surrounding_space")


def test_a_contact_is_found_in_both_unicode_forms(client):
    address = f"/api/v1/contacts/{NFD}"
    assert client.put(address, {"email": "max@example.com"}, content_type="application/json").status_code == 201
    assert Contact.objects.get().user_id == NFC
    assert client.get(f"/api/v1/contacts/{NFC}").json()["user_id"] == NFC
    refusal = client.put("/api/v1/contacts/a%E2%80%8Bb", {}, content_type="application/json")
    assert refusal.json()["errors"][0]["code"] == "character"


def test_the_console_finds_an_order_in_both_unicode_forms(admin_client, accept):
    payment = accept(order_id=NFC)
    found = admin_client.get(reverse("admin:payments_payment_changelist"), {"q": NFD})
    assert str(payment.pk) in found.content.decode()


def test_a_contact_that_is_made_in_the_console_is_kept_in_nfc(merchant):
    fields = {"merchant": str(merchant.pk), "mode": Mode.TEST.value, "email": "max@example.com"}
    form = ContactForm({**fields, "user_id": NFD})
    assert form.is_valid(), form.errors
    assert form.save().user_id == NFC
    assert ContactForm({**fields, "user_id": "a\u200bb"}).has_error("user_id", "character")


def test_the_order_of_an_unmatched_charge_is_compared_in_nfc(merchant):
    entry = replace(entry_of(merchant), order_id=NFD)
    assert record(entry).order_id == NFC
