"""The table of idempotency, row by row; each test is named for its row."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.db.utils import OperationalError
from django.utils import timezone

from merchants.models import Mode
from messaging import outbox
from payments.errors import IdempotencyKeyInUse
from payments.models import IdempotencyKey, Payment
from payments.operations import PaymentRequest, Wish, accept_payments, insert, process_payments
from payments.operations.wishes import prepare
from tests.locks import await_lock_waiter

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db(transaction=True)

BODY = {"amount": "10.00", "order_id": "o-1"}


def code(answer):
    return answer.status_code, answer.json()["code"]


def nothing_stored():
    return not IdempotencyKey.objects.exists() and not Payment.objects.exists()


def test_row_missing(post):
    assert code(post(BODY, key=None)) == (400, "idempotency_key_missing")
    assert nothing_stored()


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, '"unclosed'])
def test_row_malformed(post, key):
    assert code(post(BODY, key=key)) == (400, "idempotency_key_invalid")
    assert nothing_stored()


@pytest.mark.parametrize(
    ("body", "status"), [({"amount": "0"}, 400), ({"amount": "1", "nonsense": 1}, 400), ("not json", 400)]
)
def test_row_any_4xx_stores_nothing_and_the_key_may_be_used_again(post, body, status):
    assert post(body, key="k").status_code == status
    assert nothing_stored()
    assert post(BODY, key="k").status_code == 202


def test_row_any_4xx_a_conflict_is_decided_anew_because_the_order_moves_on(post, sandbox):
    declined = post({**BODY, "payment_method": "pm_declined"}, key="first").json()["id"]
    assert post(BODY, key="k").status_code == 409
    process_payments(payment_ids=[declined])
    assert post(BODY, key="k").status_code == 202


def test_row_first_the_response_is_stored_with_the_operation(post):
    answer = post(BODY)
    stored = IdempotencyKey.objects.get()
    assert answer.status_code == stored.status_code == 202
    assert answer.content.decode() == stored.body
    assert "Idempotent-Replayed" not in answer
    assert stored.replays == 0


def test_row_same_key_same_request(post, sandbox):
    first = post(BODY)
    process_payments(payment_ids=[first.json()["id"]])
    again = post(BODY)
    assert (again.status_code, again.content, again["Location"]) == (202, first.content, first["Location"])
    assert again["Idempotent-Replayed"] == "true"
    assert Payment.objects.count() == 1


def test_row_same_key_other_body(post):
    post(BODY)
    assert code(post({**BODY, "amount": "10.01"})) == (422, "idempotency_key_reused")
    assert Payment.objects.count() == 1


def test_row_same_key_first_still_in_flight_waits_for_it_and_replays(merchant):
    inserted, commit = threading.Event(), threading.Event()

    def first():
        with transaction.atomic():
            answer = insert.insert_durably.__wrapped__([prepare(wish(merchant))])[0]
            inserted.set()
            assert commit.wait(60)
        connections.close_all()
        return answer

    def twin():
        try:
            return accept_twin(merchant)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        original = pool.submit(first)
        assert inserted.wait(60)
        repeated = pool.submit(twin)
        await_lock_waiter()
        commit.set()
        assert repeated.result(60).body == original.result(60).body
        assert repeated.result().replayed
    assert Payment.objects.count() == 1


def test_row_same_key_first_still_in_flight_past_the_lock_timeout(merchant):
    """The first request hangs in its transaction; the twin gives up after `lock_timeout`."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            insert.insert_durably.__wrapped__([prepare(wish(merchant))])
            cursor.execute("SELECT 1")

        def twin():
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SET lock_timeout = '50ms'")
                accept_twin(merchant)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool, pytest.raises(IdempotencyKeyInUse):
            pool.submit(twin).result(60)


@pytest.mark.parametrize("error", [OperationalError("the server closed the connection"), RuntimeError("a defect")])
def test_row_crash_or_5xx_is_rolled_back_and_a_retry_executes(post, error):
    with mock.patch.object(outbox, "rows_of", side_effect=error):
        assert post(BODY).status_code in {500, 503}
    assert nothing_stored()
    again = post(BODY)
    assert again.status_code == 202
    assert "Idempotent-Replayed" not in again


def test_row_other_key_order_has_a_live_payment(post):
    first = post(BODY, key="first").json()["id"]
    answer = post(BODY, key="second")
    assert code(answer) == (409, "order_payment_active")
    assert answer.json()["payment_id"] == first


def test_row_other_key_order_is_paid(post, sandbox):
    first = post(BODY, key="first").json()["id"]
    process_payments(payment_ids=[first])
    answer = post(BODY, key="second")
    assert code(answer) == (409, "order_already_paid")
    assert answer.json()["payment_id"] == first


def test_row_other_key_the_orders_last_payment_failed(post, sandbox):
    first = post({**BODY, "payment_method": "pm_declined"}, key="first").json()["id"]
    process_payments(payment_ids=[first])
    answer = post(BODY, key="second")
    assert answer.status_code == 202
    assert answer.json()["id"] != first


# --- duplicates are counted


def test_each_duplicate_is_counted_once(post):
    for _ in range(4):
        post(BODY)
    assert IdempotencyKey.objects.get().replays == 3


def test_a_request_that_is_refused_is_no_duplicate(post):
    post(BODY)
    post({**BODY, "amount": "11.00"})
    post(BODY, key="other")
    assert IdempotencyKey.objects.get().replays == 0


def test_a_duplicate_does_not_wait_for_the_worker_that_holds_the_payment(post):
    first = post(BODY)

    def duplicate():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1s'")
            return post(BODY)
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        Payment.objects.select_for_update().get()
        again = pool.submit(duplicate).result(60)
    assert (again.status_code, again.content) == (202, first.content)


# --- pruning


def prune(**options):
    out = StringIO()
    call_command("prune", stdout=out, **options)
    return out.getvalue().splitlines()[0]


def age(days):
    IdempotencyKey.objects.update(created_at=Now() - timedelta(days=days))


def test_a_key_is_kept_for_thirty_days_and_forgotten_after(post, sandbox):
    process_payments(payment_ids=[post(BODY).json()["id"]])
    age(29.9)
    assert prune() == "Idempotency keys forgotten: 0."
    age(30.1)
    assert prune() == "Idempotency keys forgotten: 1."
    assert Payment.objects.count() == 1


@pytest.mark.parametrize("method", ["pm_ok", "pm_reset"])
def test_a_key_whose_payment_is_not_final_is_never_forgotten(post, sandbox, method):
    """Forgotten, the same request would make a second payment while the first may yet be charged."""
    payment = post({"amount": "1.00", "payment_method": method}).json()["id"]
    if method != "pm_ok":
        process_payments(payment_ids=[payment])
    age(100)
    assert prune() == "Idempotency keys forgotten: 0."


def test_a_batch_of_nothing_is_refused(db):
    with pytest.raises(CommandError, match="from 1 to"):
        call_command("prune", "--batch", "0")


def test_many_keys_are_forgotten_in_small_batches(post, accept, sandbox):
    for number in range(7):
        process_payments(payment_ids=[accept(key=f"key-{number}").pk])
    age(31)
    accept(key="new")
    assert prune(batch=3) == "Idempotency keys forgotten: 7."
    assert json.loads(IdempotencyKey.objects.get().body)["status"] == "pending"


def accept_twin(merchant):
    (outcome,) = accept_payments([wish(merchant)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def wish(merchant):
    return Wish(
        merchant=merchant,
        mode=Mode.TEST,
        idempotency_key="key-1",
        request=PaymentRequest(amount=1000, currency="EUR"),
        request_id="r",
        now=timezone.now(),
    )


def test_keys_from_before_a_field_was_added_stay_valid():
    """A client may come again a month later, and its request means what it meant."""
    said = {"amount": 1000, "currency": "EUR", "metadata": {}}
    empty = ("order_id", "user_id", "description", "payment_method", "webhook_url")
    assert PaymentRequest(amount=1000, currency="EUR").values() == {**said, **dict.fromkeys(empty, "")}
    given = PaymentRequest(amount=1000, currency="EUR", receipt_email="a@example.org").values()
    assert given["receipt_email"] == "a@example.org", "what is asked for is part of the request"
