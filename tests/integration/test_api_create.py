"""`POST /payments`: what is accepted, what is refused and in which words, and that a refusal stores nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction
from django.test import Client
from django.utils import timezone
from django.utils.html import escape
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from merchants import api_keys
from merchants.models import Mode
from messaging.models import OutboxMessage
from payments import transitions
from payments.models import IdempotencyKey, Payment, PaymentEvent
from payments.operations import PaymentRequest, Wish, insert
from payments.operations.wishes import prepare
from payments.problems import catalogue
from payments.states import Status
from tests import doors
from tests.outbox import work

#: See tests/doors.py.
BOTH_DOORS = True

URL = "/api/v1/payments"
LIVE_KEY = "sk_live_the-key-of-the-tests"


@pytest.fixture
def live_client(merchant):
    api_keys.register_key(LIVE_KEY, merchant=merchant, mode=Mode.LIVE, name="live")
    return Client(headers={"authorization": f"Bearer {LIVE_KEY}"}, raise_request_exception=False)


def problem(response, status, code):
    """The problem in a response, which is one in every respect."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"http://testserver/problems/{code}"
    assert body["title"] == catalogue()[code].title
    assert body["request_id"] == response["X-Request-ID"]
    assert body["detail"]
    return body


def assert_nothing_is_stored():
    for model in (Payment, IdempotencyKey, PaymentEvent, OutboxMessage):
        assert not model.objects.exists(), model


def succeed(payment):
    """Take a payment to its end without a gateway."""
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(payment, Status.SUCCEEDED, now=timezone.now(), amount_captured=payment.amount)


def fail(payment):
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(payment, Status.FAILED, now=timezone.now(), holds_order=False, error_code="declined")


@pytest.mark.django_db
def test_these_tests_go_by_the_door_that_they_say(post, door):
    assert post({"amount": "10.00"}).status_code == 202
    assert bool(doors.answered) == (door == "fast")


# --- what is accepted


@pytest.mark.django_db
def test_an_accepted_payment_is_answered_with_202_and_found_at_its_location(post, client):
    response = post({"amount": "100.50", "currency": "EUR", "order_id": "o-1", "metadata": {"a": "b"}})
    assert response.status_code == 202
    assert response["Content-Type"] == "application/json"
    body = response.json()
    assert (body["status"], body["amount"], body["currency"]) == ("pending", "100.50", "EUR")
    assert (body["order_id"], body["metadata"], body["user_id"]) == ("o-1", {"a": "b"}, None)
    assert response["Location"] == body["links"]["self"] == f"{URL}/{body['id']}"
    assert "Idempotent-Replayed" not in response
    assert client.get(response["Location"]).json() == body
    assert Payment.objects.get().request_id == response["X-Request-ID"]


@pytest.mark.django_db
def test_a_trailing_slash_loses_no_body(client):
    response = client.post(
        f"{URL}/", {"amount": 1}, content_type="application/json", headers={"Idempotency-Key": "key-1"}
    )
    assert response.status_code == 202
    assert client.get(response["Location"] + "/").json() == response.json()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "amount", "currency"),
    [
        ({"user_id": "user123", "amount": 1000, "currency": "INR"}, "1000.00", "INR"),
        (
            {
                "amount": "100.50",
                "currency": "RUB",
                "description": "Order 1",
                "metadata": {"order": "1"},
                "webhook_url": "https://shop.example.com/hook",
            },
            "100.50",
            "RUB",
        ),
        ({"user_id": "user123", "amount": 100.0, "idempotency_key": "unique-key-123"}, "100.00", "EUR"),
        ({"order_id": "order-123", "amount": 100.00}, "100.00", "EUR"),
    ],
)
def test_every_body_that_the_documentation_promises_is_accepted(post, body, amount, currency):
    response = post(body, key=None if "idempotency_key" in body else "key-1")
    assert response.status_code == 202
    shown = response.json()
    assert (shown["amount"], shown["currency"]) == (amount, currency)
    stored = Payment.objects.get()
    for name in body.keys() - {"amount", "currency", "idempotency_key"}:
        assert getattr(stored, name) == body[name]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ('"1000"', "JPY", 1000),
        ("10.0", "JPY", 10),
        ('"0.01"', "EUR", 1),
        ("1.005", "KWD", 1005),
        ("1e2", "EUR", 10_000),
    ],
)
def test_no_amount_is_changed_on_its_way_into_the_database(post, amount, currency, minor):
    assert post(f'{{"amount": {amount}, "currency": "{currency}"}}').status_code == 202
    assert Payment.objects.get().amount == minor


@pytest.mark.django_db
def test_null_counts_as_absent_and_never_as_a_value(post):
    absent = ["currency", "order_id", "user_id", "description", "metadata", "payment_method", "capture", "webhook_url"]
    response = post({"amount": 1, "idempotency_key": None, **dict.fromkeys(absent)})
    assert response.status_code == 202
    assert post({"amount": 1}).content == response.content


# --- the same request again


@pytest.mark.django_db
def test_the_same_request_again_gets_the_same_bytes_and_makes_no_second_payment(post):
    first = post({"amount": "10.00", "order_id": "o-1", "description": "Grüße"})
    again = post({"amount": "10.00", "order_id": "o-1", "description": "Grüße"})
    assert again["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.content, again["Location"], again["Content-Type"]) == (
        first.status_code,
        first.content,
        first["Location"],
        first["Content-Type"],
    )
    assert Payment.objects.count() == work().count() == 1


@pytest.mark.django_db
def test_a_replay_is_the_acceptance_for_ever_and_never_the_state_of_today(post, client):
    first = post({"amount": 1, "order_id": "o-1"})
    succeed(Payment.objects.get())
    again = post({"amount": 1, "order_id": "o-1"})
    assert again.content == first.content
    assert client.get(again["Location"]).json()["status"] == "succeeded"


@pytest.mark.django_db
@pytest.mark.parametrize("amount", ["100", '"100"', '"100.00"', "100.0", "100.00", "1e2"])
def test_another_spelling_of_the_same_amount_is_never_another_request(post, amount):
    first = post('{"amount": 100, "currency": "EUR"}')
    again = post(f'{{"currency": "EUR", "amount": {amount}}}')
    assert again.content == first.content
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.django_db
def test_the_default_currency_spelt_out_is_the_same_request(post):
    assert post({"amount": 1}).content == post({"amount": 1, "currency": "EUR"}).content


@pytest.mark.django_db
def test_a_key_in_the_body_is_the_same_key_as_in_the_header(post, client):
    first = post({"amount": 1}, key="key-1")
    in_body = post({"amount": 1, "idempotency_key": "key-1"}, key=None)
    in_both = post({"amount": 1, "idempotency_key": "key-1"}, key='"key-1"')
    assert first.content == in_body.content == in_both.content
    assert Payment.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change", [{"amount": 2}, {"currency": "USD"}, {"order_id": "o-2"}, {"description": "x"}, {"metadata": {"a": "c"}}]
)
def test_a_key_with_another_body_is_refused_and_charges_nothing(post, change):
    body = {"amount": 1, "order_id": "o-1", "metadata": {"a": "b"}}
    post(body)
    refusal = problem(post({**body, **change}), 422, "idempotency_key_reused")
    assert not refusal["retryable"]
    assert "use a new key" in refusal["detail"]
    assert Payment.objects.count() == IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_a_refused_request_leaves_its_key_free(post):
    problem(post({"amount": "1.234"}), 400, "invalid_request")
    assert post({"amount": "1.23"}).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_request_whose_twin_hangs_is_told_when_to_come_again(post, merchant):
    def twin():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            return post({"amount": 1})
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        IdempotencyKey.objects.create(
            merchant=merchant, key="key-1", fingerprint=b"", status_code=202, body="", location="", payment_id=uuid4()
        )
        response = pool.submit(twin).result(10)
        transaction.set_rollback(True)
    refusal = problem(response, 409, "idempotency_key_in_use")
    assert refusal["retryable"]
    assert response["Retry-After"] == "1"
    assert_nothing_is_stored()
    assert post({"amount": 1}).status_code == 202


def post_in_thread(post, body, **options):
    """Post over a connection whose lock timeout is short."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        return post(body, **options)
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "lock",
    [
        "LOCK TABLE payments_idempotencykey IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE payments_idempotencykey IN SHARE MODE",
        "LOCK TABLE payments_payment IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE payments_payment IN SHARE MODE",
        "LOCK TABLE payments_paymentevent IN ACCESS EXCLUSIVE MODE",
        "LOCK TABLE messaging_outboxmessage IN ACCESS EXCLUSIVE MODE",
        "SELECT FROM merchants_merchant FOR UPDATE",
    ],
)
def test_a_lock_that_is_not_of_the_key_or_the_order_answers_503(post, lock):
    """A migration or a hung session is not the client's conflict."""
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        with connection.cursor() as cursor:
            cursor.execute(lock)
        response = pool.submit(post_in_thread, post, {"amount": 1, "order_id": "o-1"}).result(10)
        transaction.set_rollback(True)
    refusal = problem(response, 503, "temporarily_unavailable")
    assert refusal["retryable"]
    assert int(response["Retry-After"]) >= 1
    assert_nothing_is_stored()
    assert post({"amount": 1, "order_id": "o-1"}).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_an_order_that_another_request_is_taking_is_the_clients_conflict(post, merchant):
    other = Wish(
        merchant=merchant,
        mode=Mode.TEST,
        idempotency_key="key-2",
        request=PaymentRequest(amount=1, currency="EUR", order_id="o-1"),
        request_id="r",
        now=timezone.now(),
    )
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        insert.insert_durably.__wrapped__([prepare(other)])
        response = pool.submit(post_in_thread, post, {"amount": 1, "order_id": "o-1"}).result(10)
        transaction.set_rollback(True)
    problem(response, 409, "idempotency_key_in_use")
    assert post({"amount": 1, "order_id": "o-1"}).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_concurrent_twins_make_one_payment_and_get_equal_answers(post):
    together = threading.Barrier(8)

    def one(_):
        try:
            together.wait(10)
            return post({"amount": 1, "order_id": "o-1"})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(one, range(8)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.content for response in responses}) == 1
    assert sum("Idempotent-Replayed" not in response for response in responses) == 1
    assert Payment.objects.count() == 1


# --- the order stands in the way


@pytest.mark.django_db
def test_an_order_with_a_payment_under_way_names_that_payment(post):
    payment_id = post({"amount": 1, "order_id": "o-1"}).json()["id"]
    refusal = problem(post({"amount": 1, "order_id": "o-1"}, key="key-2"), 409, "order_payment_active")
    assert refusal["payment_id"] == payment_id
    assert "follow it" in refusal["detail"]
    assert Payment.objects.count() == IdempotencyKey.objects.count() == 1


@pytest.mark.django_db
def test_a_paid_order_names_the_payment_that_paid_it(post):
    payment_id = post({"amount": 1, "order_id": "o-1"}).json()["id"]
    succeed(Payment.objects.get())
    refusal = problem(post({"amount": 1, "order_id": "o-1"}, key="key-2"), 409, "order_already_paid")
    assert (refusal["payment_id"], refusal["retryable"]) == (payment_id, False)


@pytest.mark.django_db
def test_a_conflict_is_decided_anew_and_never_replayed(post):
    post({"amount": 1, "order_id": "o-1"})
    problem(post({"amount": 1, "order_id": "o-1"}, key="key-2"), 409, "order_payment_active")
    fail(Payment.objects.get())
    assert post({"amount": 1, "order_id": "o-1"}, key="key-2").status_code == 202


# --- live mode


@pytest.mark.django_db
def test_a_live_key_without_a_live_gateway_stores_nothing(live_client):
    response = live_client.post(
        URL,
        {"amount": 1, "payment_method": "pm_x"},
        content_type="application/json",
        headers={"Idempotency-Key": "key-1"},
    )
    problem(response, 503, "no_live_gateway")
    assert_nothing_is_stored()


@pytest.mark.django_db
def test_a_live_payment_never_gets_a_default_method(live_client, settings):
    settings.GATEWAYS = {**settings.GATEWAYS, "live": {**settings.GATEWAYS["sandbox"], "MODE": "live"}}
    response = live_client.post(
        URL, {"amount": 1}, content_type="application/json", headers={"Idempotency-Key": "key-1"}
    )
    refusal = problem(response, 400, "payment_method_required")
    assert "`payment_method`" in refusal["detail"]
    assert_nothing_is_stored()


# --- what is refused


@pytest.mark.django_db
def test_a_payment_without_a_key_is_refused_and_stored_nowhere(post):
    refusal = problem(post({"amount": 1}, key=None), 400, "idempotency_key_missing")
    assert "`Idempotency-Key`" in refusal["detail"]
    assert_nothing_is_stored()


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", '""', "a b", "a,b", '"a', "k" * 256, "ключ", "a\x00"])
def test_a_malformed_key_is_refused_and_stored_nowhere(post, key):
    refusal = problem(post({"amount": 1}, key=key), 400, "idempotency_key_invalid")
    assert "1 to 255 printable ASCII characters" in refusal["detail"]
    problem(post({"amount": 1, "idempotency_key": key}, key=None), 400, "idempotency_key_invalid")
    assert_nothing_is_stored()


@pytest.mark.django_db
@pytest.mark.parametrize("key", [[], {}, True, {"a": 1}, [["key-1"]], 1.5])
def test_a_key_in_the_body_that_is_no_text_is_refused(post, key):
    response = post({"amount": 1, "idempotency_key": key}, key=None)
    assert response.status_code == 400, response.content
    assert_nothing_is_stored()


@pytest.mark.django_db
def test_two_different_keys_are_refused_and_stored_nowhere(post):
    response = post({"amount": 1, "idempotency_key": "key-2"}, key="key-1")
    problem(response, 400, "idempotency_key_mismatch")
    assert_nothing_is_stored()


HUGE = "9" * 4000
#: Body, then `code`, `pointer` and a word of the detail of its one fault.
BAD_FIELDS = {
    "amount missing": ('{"currency": "EUR"}', "required", "/amount", "missing"),
    "amount null": ('{"amount": null}', "null", "/amount", "has no null"),
    "amount true": ('{"amount": true}', "invalid", "/amount", "such as 10.00"),
    "amount list": ('{"amount": [10]}', "invalid", "/amount", "such as 10.00"),
    "amount object": ('{"amount": {"value": 10}}', "invalid", "/amount", "such as 10.00"),
    "amount empty": ('{"amount": ""}', "invalid", "/amount", "such as 10.00"),
    "amount comma": ('{"amount": "10,00"}', "invalid", "/amount", "such as 10.00"),
    "amount words": ('{"amount": "ten"}', "invalid", "/amount", "such as 10.00"),
    "amount symbol": ('{"amount": "€10"}', "invalid", "/amount", "such as 10.00"),
    "amount NaN": ('{"amount": NaN}', "invalid", "/amount", "such as 10.00"),
    "amount Infinity": ('{"amount": Infinity}', "invalid", "/amount", "such as 10.00"),
    "amount -Infinity": ('{"amount": -Infinity}', "invalid", "/amount", "such as 10.00"),
    "amount NaN as text": ('{"amount": "NaN"}', "invalid", "/amount", "such as 10.00"),
    "amount NUL": ('{"amount": "10\\u0000"}', "invalid", "/amount", "such as 10.00"),
    "amount zero": ('{"amount": 0}', "range", "/amount", "above 0 and at most 9999999999.99 EUR"),
    "amount zero as text": ('{"amount": "0.00"}', "range", "/amount", "above 0"),
    "amount negative": ('{"amount": -10}', "range", "/amount", "above 0"),
    "amount too large": ('{"amount": 10000000000}', "range", "/amount", "at most 9999999999.99 EUR"),
    "amount with 4000 digits": (f'{{"amount": {HUGE}}}', "range", "/amount", "at most"),
    "amount 1e400000": ('{"amount": 1e400000}', "range", "/amount", "at most"),
    "amount 1e-400000": ('{"amount": 1e-400000}', "decimals", "/amount", "EUR has 2 decimals"),
    "amount JPY 0.5": ('{"amount": "0.5", "currency": "JPY"}', "decimals", "/amount", "JPY has 0 decimals"),
    "amount EUR 10.001": ('{"amount": 10.001, "currency": "EUR"}', "decimals", "/amount", "EUR has 2 decimals"),
    "amount KWD 1.0001": ('{"amount": 1.0001, "currency": "KWD"}', "decimals", "/amount", "KWD has 3 decimals"),
    "amount of 30 digits": (
        '{"amount": "1000000000.00000000000000000001"}', "decimals", "/amount", "EUR has 2 decimals",
    ),
    "currency unknown": ('{"amount": 1, "currency": "XYZ"}', "unknown", "/currency", "ISO 4217"),
    "currency lower case": ('{"amount": 1, "currency": "eur"}', "unknown", "/currency", "capital letters"),
    "currency empty": ('{"amount": 1, "currency": ""}', "blank", "/currency", "empty"),
    "currency object": ('{"amount": 1, "currency": {}}', "invalid", "/currency", "string"),
    "field unknown": ('{"amount": 1, "amout": 1}', "unknown_field", "/amout", "Known are: amount, currency"),
    "order_id too long": (f'{{"amount": 1, "order_id": "{"o" * 256}"}}', "max_length", "/order_id", "255"),
    "order_id list": ('{"amount": 1, "order_id": ["o"]}', "invalid", "/order_id", "string"),
    "order_id empty": ('{"amount": 1, "order_id": ""}', "blank", "/order_id", "empty"),
    "user_id too long": (f'{{"amount": 1, "user_id": "{"u" * 256}"}}', "max_length", "/user_id", "255"),
    "description too long": (f'{{"amount": 1, "description": "{"d" * 1001}"}}', "max_length", "/description", "1000"),
    "payment_method too long": (
        f'{{"amount": 1, "payment_method": "{"p" * 256}"}}', "max_length", "/payment_method", "255",
    ),
    "webhook_url relative": ('{"amount": 1, "webhook_url": "/hook"}', "invalid", "/webhook_url", "https://"),
    "webhook_url too long": (
        f'{{"amount": 1, "webhook_url": "https://example.com/{"w" * 500}"}}', "max_length", "/webhook_url", "500",
    ),
    "capture manual": ('{"amount": 1, "capture": "manual"}', "invalid_choice", "/capture", "automatic"),
    "metadata text": ('{"amount": 1, "metadata": "a=b"}', "not_a_dict", "/metadata", "JSON object"),
    "metadata list": ('{"amount": 1, "metadata": [["a", "b"]]}', "not_a_dict", "/metadata", "JSON object"),
    "metadata nested": ('{"amount": 1, "metadata": {"a": {"b": "c"}}}', "invalid", "/metadata/a", "string"),
    "metadata with a list": ('{"amount": 1, "metadata": {"a": ["b"]}}', "invalid", "/metadata/a", "string"),
    "metadata with a boolean": ('{"amount": 1, "metadata": {"a": true}}', "invalid", "/metadata/a", "string"),
    "metadata with a number": ('{"amount": 1, "metadata": {"a": 5}}', "invalid", "/metadata/a", "string"),
    "metadata with a fraction": ('{"amount": 1, "metadata": {"a": 1.5}}', "invalid", "/metadata/a", "string"),
    "metadata with null": ('{"amount": 1, "metadata": {"a": null}}', "null", "/metadata/a", "null"),
    "metadata value too long": (
        f'{{"amount": 1, "metadata": {{"a": "{"v" * 501}"}}}}', "max_length", "/metadata/a", "500",
    ),
    "metadata name too long": (
        f'{{"amount": 1, "metadata": {{"{"n" * 41}": "b"}}}}', "invalid_name", "/metadata", "1 to 40 printable",
    ),
    "metadata name empty": ('{"amount": 1, "metadata": {"": "b"}}', "invalid_name", "/metadata", "1 to 40 printable"),
    "metadata of 51 pairs": (
        json.dumps({"amount": 1, "metadata": {f"n{n}": "v" for n in range(51)}}), "too_many", "/metadata", "At most 50",
    ),
    "card number in description": (
        '{"amount": 1, "description": "4242 4242 4242 4242"}', "card_number", "/description", "the gateway's token",
    ),
    "card number in metadata": (
        '{"amount": 1, "metadata": {"pan": "5555-5555-5555-4444"}}', "card_number", "/metadata/pan", "Never send one",
    ),
    "card number as payment_method": (
        '{"amount": 1, "payment_method": "378282246310005"}', "card_number", "/payment_method", "payment_method",
    ),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(("body", "code", "pointer", "word"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_named_with_its_mend_and_stores_nothing(post, body, code, pointer, word):
    refusal = problem(post(body), 400, "invalid_request")
    (fault,) = refusal["errors"]
    assert (fault["code"], fault["pointer"]) == (code, pointer)
    assert word in fault["detail"]
    assert fault["detail"] in refusal["detail"]
    assert not refusal["retryable"]
    assert_nothing_is_stored()


@pytest.mark.django_db
def test_all_bad_fields_are_named_at_once(post):
    refusal = problem(post({"amount": "x", "currency": "eur", "metadata": {"a": []}}), 400, "invalid_request")
    assert {fault["pointer"] for fault in refusal["errors"]} == {"/amount", "/currency", "/metadata/a"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"amount": 1, "a/b": 1}, "/a~1b"),
        ({"amount": 1, "a~b": 1}, "/a~0b"),
        ({"amount": 1, "a.b": 1}, "/a.b"),
        ({"amount": 1, "": 1}, "/"),
        ({"amount": 1, "metadata": {"a.b": []}}, "/metadata/a.b"),
        ({"amount": 1, "metadata": {"a/b": []}}, "/metadata/a~1b"),
    ],
)
def test_a_pointer_never_points_elsewhere(post, body, pointer):
    """RFC 6901: `~` and `/` are escaped in a name, and a dot is a character as any other."""
    refusal = problem(post(body), 400, "invalid_request")
    assert [fault["pointer"] for fault in refusal["errors"]] == [pointer]


UNSTORABLE = {"NUL": chr(0), "high surrogate": chr(0xD800), "low surrogate": chr(0xDFFF)}


@pytest.mark.django_db
@pytest.mark.parametrize("character", UNSTORABLE.values(), ids=UNSTORABLE)
@pytest.mark.parametrize(
    "place",
    [
        "order_id", "user_id", "description", "payment_method", "webhook_url", "currency", "capture", "idempotency_key",
        "name of a field", "name in metadata", "value in metadata", "name of a bad value in metadata",
    ],
)  # fmt: skip
def test_no_text_that_postgresql_cannot_hold_gets_anywhere(post, place, character):
    text = f"{character}a"
    special = {
        "webhook_url": {"webhook_url": f"https://example.com/{text}"},
        "name of a field": {text: "a"},
        "name in metadata": {"metadata": {text: "a"}},
        "value in metadata": {"metadata": {"a": text}},
        "name of a bad value in metadata": {"metadata": {text: []}},
    }
    body = {"amount": 1, **special.get(place, {place: text})}
    key = None if place == "idempotency_key" else "key-1"
    response = post(json.dumps(body), key=key)
    assert response.status_code == 400, response.content
    problem(response, 400, response.json()["code"])
    assert_nothing_is_stored()


NO_OBJECTS = {
    "not JSON": "amount=1",
    "cut off": '{"amount": 1',
    "repeated name": '{"amount": 1, "amount": 2}',
    "array": '[{"amount": 1}]',
    "string": '"amount"',
    "number": "1",
    "null": "null",
    "not UTF-8": b'{"amount": 1, "description": "\xff"}',
    "deeply nested": "[" * 50_000,
}


@pytest.mark.django_db
@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_a_body_that_is_no_json_object_is_refused_and_stored_nowhere(post, body):
    refusal = problem(post(body), 400, "invalid_request")
    assert all(fault["pointer"] == "" for fault in refusal["errors"])
    assert_nothing_is_stored()


@pytest.mark.django_db
def test_an_empty_body_is_told_what_is_missing(post):
    refusal = problem(post(""), 400, "invalid_request")
    assert [fault["pointer"] for fault in refusal["errors"]] == ["/amount"]
    assert_nothing_is_stored()


@pytest.mark.django_db
def test_a_body_over_the_limit_is_refused_and_stored_nowhere(post, settings):
    body = json.dumps({"amount": 1, "description": "d" * settings.MAX_BODY_BYTES})
    refusal = problem(post(body), 413, "body_too_large")
    assert str(settings.MAX_BODY_BYTES) in refusal["detail"]
    assert_nothing_is_stored()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
)
def test_what_is_not_declared_as_json_is_refused_and_stored_nowhere(client, content_type):
    response = client.post(URL, '{"amount": 1}', content_type=content_type, headers={"Idempotency-Key": "key-1"})
    problem(response, 415, "unsupported_media_type")
    assert_nothing_is_stored()


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_method_that_no_scope_allows_is_refused(client, method):
    response = getattr(client, method)(URL, "{}", content_type="application/json")
    assert response.status_code in {403, 405}
    assert response["Content-Type"] == "application/problem+json"


UNKNOWN_ID = "0190a6f0-0000-7000-8000-000000000001"


@pytest.mark.django_db
@pytest.mark.parametrize("path", [URL, f"{URL}/{UNKNOWN_ID}", f"{URL}/batch", "/api/v1/analytics/daily"])
def test_options_name_the_methods_to_a_caller_and_nothing_else(client, path):
    answer = client.options(path)
    assert (answer.status_code, answer.content) == (200, b"")
    methods = set(answer["Allow"].split(", "))
    assert "OPTIONS" in methods
    for method in ("PUT", "PATCH", "DELETE"):
        assert method not in methods


@pytest.mark.django_db
def test_options_need_a_credential_and_no_scope(merchant):
    problem(Client().options(URL), 401, "unauthenticated")
    without_scopes = "sk_test_without-any-scope"
    api_keys.register_key(without_scopes, merchant=merchant, mode=Mode.TEST, name="none", scopes=[])
    answer = Client(headers={"authorization": f"Bearer {without_scopes}"}).options(URL)
    assert (answer.status_code, answer["Allow"]) == (200, "GET, POST, HEAD, OPTIONS")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs?script=", "/api/v1/schema"])
def test_options_of_the_documentation_name_its_methods(path):
    answer = Client().options(path)
    assert (answer.status_code, answer.content, answer["Allow"]) == (200, b"", "GET, HEAD, OPTIONS")
    assert Client().get(path).status_code == 200
    assert Client().post(path).status_code == 405


@pytest.mark.django_db
def test_a_merchant_whose_currency_nobody_knows_is_asked_for_one(post, merchant):
    """Three capital letters are all that the merchant's own form checks."""
    merchant.currency = "EUT"
    merchant.save()
    refusal = problem(post({"amount": 1}), 400, "invalid_request")
    assert [fault["pointer"] for fault in refusal["errors"]] == ["/currency"]
    assert post({"amount": 1, "currency": "EUR"}).status_code == 202


@pytest.mark.django_db
@pytest.mark.parametrize("code", catalogue())
def test_the_page_behind_every_problem_explains_the_mend(code):
    response = Client().get(f"/problems/{code}")
    assert response.status_code == 200
    assert response.context["kind"].mend
    assert escape(catalogue()[code].title) in response.content.decode()


def test_a_problem_that_does_not_exist_has_no_page():
    assert Client(raise_request_exception=False).get("/problems/no_such_problem").status_code == 404


# --- whatever comes

ANY_TEXT = st.text(max_size=30) | st.text(st.sampled_from("\x00\ud800\udfff./~ \n\u202e😀aé"), max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["10.00", "EUR", "JPY", "pm_ok", "automatic", "1e5", "https://example.com", "4242424242424242"])
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3), max_leaves=6
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "amount": DOCUMENTS | st.decimals(0, 10_000, places=2).map(str),
        "currency": DOCUMENTS,
        "order_id": DOCUMENTS,
        "user_id": DOCUMENTS,
        "description": DOCUMENTS,
        "metadata": DOCUMENTS | st.dictionaries(ANY_TEXT, SCALARS, max_size=3),
        "payment_method": DOCUMENTS,
        "capture": DOCUMENTS,
        "webhook_url": DOCUMENTS,
        "idempotency_key": DOCUMENTS,
    },
)


def merge(objects):
    return {name: value for one in objects for name, value in one.items()}


@pytest.mark.django_db
@hypothesis_settings(
    max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=DOCUMENTS | REQUESTS | st.tuples(st.dictionaries(ANY_TEXT, SCALARS, max_size=2), REQUESTS).map(merge))
def test_no_json_whatever_makes_the_server_fail(post, document):
    response = post(json.dumps(document), key=str(uuid4()))
    assert response.status_code == 202 or 400 <= response.status_code < 500, document
    assert response.json()
    assert Payment.objects.count() == IdempotencyKey.objects.count() == work().count()
