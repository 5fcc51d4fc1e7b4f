"""`POST /payments/batch`: each payment of a request has its own key, its own outcome, and its own token."""

import json
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError
from django.utils import timezone

from merchants import buckets
from merchants.models import Bucket, Mode
from payments import batch_views
from payments.batch_views import MOST
from payments.models import IdempotencyKey, Payment
from payments.operations import process_payments
from payments.velocity import blocks_in_force

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def send(client):
    def send(*payments, **headers):
        body = {"payments": list(payments)}
        return client.post("/api/v1/payments/batch", body, content_type="application/json", headers=headers)

    return send


def item(key, **fields):
    return {"amount": "10.00", "idempotency_key": key, **fields}


def codes(answer):
    """Of each result its status, and the code of its problem."""
    return [
        (result["status"], result["problem"]["code"] if result["problem"] else None)
        for result in answer.json()["results"]
    ]


def test_all_of_a_batch_are_accepted_in_its_order(send):
    answer = send(*(item(f"key-{number}", amount=number + 1) for number in range(20)))
    assert answer.status_code == 200
    told = answer.json()
    assert (told["object"], told["accepted"], told["refused"]) == ("batch", 20, 0)
    for number, result in enumerate(told["results"]):
        assert (result["status"], result["replayed"], result["problem"]) == (202, False, None)
        assert result["idempotency_key"] == f"key-{number}"
        assert result["payment"]["amount"] == f"{number + 1}.00"
        assert Payment.objects.get(pk=result["payment"]["id"]).amount == 100 * (number + 1)


def test_as_many_as_may_be_are_accepted_by_a_handful_of_statements(send, settings, django_assert_max_num_queries):
    settings.CREATION_BURST = MOST
    blocks_in_force.renew()  # once a second
    with django_assert_max_num_queries(10):
        answer = send(*(item(f"key-{number}", order_id=f"o-{number}") for number in range(MOST)))
    assert answer.json()["accepted"] == MOST == Payment.objects.count()


def test_a_payment_of_a_batch_and_one_of_its_own_are_the_same_request(send, post):
    alone = post({"amount": 10, "order_id": "o-1"}, key="key-1")
    answer = send(item("key-1", order_id="o-1"), item("key-2"))
    first, second = answer.json()["results"]
    assert (first["replayed"], first["status"], second["replayed"]) == (True, 202, False)
    assert alone.content in answer.content, "byte for byte"
    again = post({"amount": "10.0"}, key="key-2")
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == second["payment"]


def test_the_same_batch_again_repeats_every_answer_and_charges_nothing(send, sandbox):
    batch = [item(f"key-{number}") for number in range(5)]
    first = send(*batch).json()["results"]
    process_payments(payment_ids=[first[0]["payment"]["id"]])
    again = send(*batch)
    assert again.status_code == 200
    assert [result["payment"] for result in again.json()["results"]] == [result["payment"] for result in first]
    assert all(result["replayed"] for result in again.json()["results"])
    assert Payment.objects.count() == 5


def test_what_is_wrong_with_one_payment_is_none_of_the_others_business(send, post, merchant):
    merchant.amount_ceilings = {"USD": "5.00"}
    merchant.save()
    taken = post({"amount": "10.00", "order_id": "taken"}, key="taken").json()["id"]
    answer = send(
        item("a"),
        item("b", amount="nonsense"),
        {"amount": "10.00"},
        item("c d"),
        item("e", order_id="taken"),
        item("taken", amount="11.00"),
        item("f", currency="USD"),
        item("g", surprise=1),
        item("h", description="4111 1111 1111 1111"),
        item("a", amount="10"),
        item("a", amount="12"),
        {},
        item(7),
        item("i"),
    )
    assert answer.status_code == 207
    assert codes(answer) == [
        (202, None),
        (400, "invalid_request"),
        (400, "idempotency_key_missing"),
        (400, "idempotency_key_invalid"),
        (409, "order_payment_active"),
        (422, "idempotency_key_reused"),
        (400, "above_ceiling"),
        (400, "invalid_request"),
        (400, "invalid_request"),
        (202, None),
        (422, "idempotency_key_reused"),
        (400, "idempotency_key_missing"),
        (400, "idempotency_key_invalid"),
        (202, None),
    ]
    told = answer.json()
    assert (told["accepted"], told["refused"]) == (3, 11)
    assert told["results"][1]["problem"]["errors"][0]["pointer"] == "/amount"
    assert told["results"][4]["problem"]["payment_id"] == taken
    assert told["results"][9]["replayed"]
    assert sorted(IdempotencyKey.objects.values_list("key", flat=True)) == ["a", "i", "taken"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/payments"),
        ({"payments": None}, "/payments"),
        ({"payments": []}, "/payments"),
        ({"payments": {}}, "/payments"),
        ({"payments": [item("a"), 7]}, "/payments"),
        ({"payments": [item("a")] * (MOST + 1)}, "/payments"),
        ({"payments": [item("a")], "idempotency_key": "b"}, "/idempotency_key"),
        ([item("a")], ""),
    ],
)
def test_a_request_that_is_no_batch_is_refused_as_a_whole(client, body, pointer):
    answer = client.post("/api/v1/payments/batch", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert not Payment.objects.exists()


def test_a_body_may_be_larger_than_that_of_one_payment_and_not_by_any_amount(client, send):
    large = [item(f"key-{number}", description="d" * 900) for number in range(100)]
    assert len(json.dumps(large)) > django_settings.MAX_BODY_BYTES
    assert send(*large).status_code == 200
    huge = json.dumps({"payments": [item("x", description="d" * django_settings.MAX_BATCH_BYTES)]})
    answer = client.post("/api/v1/payments/batch", huge, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert str(django_settings.MAX_BATCH_BYTES) in answer.json()["detail"]


def test_each_payment_takes_one_token_and_those_beyond_the_bucket_are_refused(counter, send, merchant, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 5, 0.001
    assert send(*(item(f"key-{number}") for number in range(3))).status_code == 200
    answer = send(*(item(f"key-{number}") for number in range(2, 8)))
    accepted, refused = (202, None), (429, "rate_limited_creation")
    assert codes(answer) == [*[accepted] * 3, *[refused] * 3], "a repetition passes its own on"
    assert answer["RateLimit"].startswith('"creation";r=0;t=')
    assert not buckets.take(merchant, Mode.TEST).granted
    assert Payment.objects.count() == 5
    assert send(*(item(f"key-{number}") for number in range(5))).status_code == 200
    assert not buckets.take(merchant, Mode.TEST).granted, "nor has it given back what it had passed on"


def test_repetitions_are_answered_when_the_bucket_is_empty(counter, send, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 2, 0.001
    batch = [item("a"), item("b")]
    assert send(*batch).status_code == 200
    answer = send(*batch, item("c"))
    assert codes(answer) == [(202, None), (202, None), (429, "rate_limited_creation")]


def test_a_batch_above_the_limit_gets_on_each_time_it_is_sent_again(send, settings):
    """The repetitions at its head would take all tokens, for nothing, and its end would be refused for ever."""
    settings.CREATION_BURST, settings.CREATION_RATE = 3, 0.001
    batch = [item(f"key-{number}") for number in range(8)]
    for accepted in (3, 6, 8):
        assert send(*batch).json()["accepted"] == accepted == Payment.objects.count()
        Bucket.objects.all().delete()  # all tokens have come back
    assert send(*batch).json()["accepted"] == 8
    assert not Bucket.objects.filter(full_at__gt=timezone.now()).exists(), "repetitions cost nothing"


def test_requests_that_are_wrong_use_up_the_bucket_too(client, send, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 3, 0.001
    client.post("/api/v1/payments/batch", "no json", content_type="application/json")
    assert codes(send(item("a", amount=-1), item("b"), item("c")))[1:] == [(202, None), (429, "rate_limited_creation")]


def test_a_database_that_is_away_is_told_of_once_and_a_retry_doubles_nothing(send, monkeypatch):
    def away(_wishes):
        raise OperationalError("away")

    monkeypatch.setattr(batch_views, "accept_payments", away)
    answer = send(item("a"), item("b"))
    assert (answer.status_code, answer.json()["code"]) == (503, "temporarily_unavailable")
    monkeypatch.undo()
    assert send(item("a"), item("b")).json()["accepted"] == 2


def test_a_defect_at_one_payment_is_an_internal_error_of_its_own(send, monkeypatch):
    made = batch_views.request_in

    def fails_at_one(data, *, merchant):
        if data["idempotency_key"] == "b":
            raise LookupError("words of ours")
        return made(data, merchant=merchant)

    monkeypatch.setattr(batch_views, "request_in", fails_at_one)
    answer = send(item("a"), item("b"), item("c"))
    assert codes(answer) == [(202, None), (500, "internal_error"), (202, None)]
    assert b"words of ours" not in answer.content


def test_what_the_headers_of_one_payment_say_means_nothing_for_many(send):
    answer = send(item("a"), **{"Idempotency-Key": str(uuid4()), "Prefer": "wait=10"})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer
    assert IdempotencyKey.objects.get().key == "a"
