"""Step 1: accepting a payment is one commit, and a request has one effect."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import connections, transaction
from django.utils import timezone

from merchants.models import Mode
from payments.errors import (
    IdempotencyKeyReused,
    NoGateway,
    OrderAlreadyPaid,
    OrderConflict,
    OrderPaymentActive,
)
from payments.models import IdempotencyKey, Payment, PaymentEvent
from payments.operations import PaymentRequest, Wish, accept_payment, accept_payments, insert, process_payments
from payments.operations.wishes import prepare
from tests.locks import await_lock_waiter
from tests.outbox import work


def accept_raw(merchant, key="key-1", mode=Mode.TEST, **fields):
    request = PaymentRequest(**{"amount": 1000, "currency": "EUR", **fields})
    return accept_payment(
        merchant=merchant, mode=mode, idempotency_key=key, request=request, request_id="r", now=timezone.now()
    )


@pytest.mark.django_db(transaction=True)
def test_acceptance_writes_payment_event_key_and_message_together(accept):
    payment = accept(order_id="o-1")
    assert payment.status == "pending"
    assert payment.holds_order
    assert [event.type for event in payment.events.all()] == ["payment.created"]
    assert payment.idempotency_keys.get().key == "key-1"
    message = work().get()
    assert message.payload == {"ids": [str(payment.pk)]}
    assert (message.queue, message.actor, message.request_id) == ("payments", "process_payments", "request-key-1")


@pytest.mark.django_db(transaction=True)
def test_a_crash_before_the_commit_leaves_nothing(merchant, monkeypatch):
    def crash(*args, **kwargs):
        raise RuntimeError("power cut")

    monkeypatch.setattr(insert, "outcome_of", crash)
    with pytest.raises(RuntimeError):
        accept_raw(merchant)
    assert not Payment.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert not PaymentEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_same_request_again_gets_the_same_bytes_and_does_nothing(merchant, sandbox):
    first = accept_raw(merchant)
    process_payments(payment_ids=[Payment.objects.get().pk])
    again = accept_raw(merchant)
    assert (again.body, again.status_code, again.location) == (first.body, first.status_code, first.location)
    assert again.replayed
    assert Payment.objects.count() == 1
    assert work().count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [{"amount": 1001}, {"currency": "USD"}, {"order_id": "o"}, {"metadata": {"a": "b"}}])
def test_a_key_with_another_request_is_refused(merchant, change):
    accept_raw(merchant)
    with pytest.raises(IdempotencyKeyReused):
        accept_raw(merchant, **change)
    assert Payment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_merchants_may_use_the_same_key_and_order(merchant, other_merchant):
    accept_raw(merchant, order_id="o-1")
    accept_raw(other_merchant, order_id="o-1")
    assert Payment.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_live_payment_without_a_live_gateway_is_refused(merchant):
    with pytest.raises(NoGateway):
        accept_raw(merchant, mode=Mode.LIVE, payment_method="pm_x")
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_order_with_a_payment_under_way_takes_no_second_one(merchant):
    accept_raw(merchant, order_id="o-1")
    with pytest.raises(OrderPaymentActive) as refusal:
        accept_raw(merchant, key="key-2", order_id="o-1")
    assert refusal.value.payment_id == Payment.objects.get().pk
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_paid_order_takes_no_second_payment(merchant, sandbox):
    accept_raw(merchant, order_id="o-1")
    process_payments(payment_ids=[Payment.objects.get().pk])
    with pytest.raises(OrderAlreadyPaid):
        accept_raw(merchant, key="key-2", order_id="o-1")


@pytest.mark.django_db(transaction=True)
def test_an_order_whose_payment_was_declined_takes_a_new_one(merchant, sandbox):
    accept_raw(merchant, order_id="o-1", payment_method="pm_declined")
    process_payments(payment_ids=[Payment.objects.get().pk])
    accept_raw(merchant, key="key-2", order_id="o-1")
    assert sorted(Payment.objects.values_list("status", flat=True)) == ["failed", "pending"]


@pytest.mark.django_db(transaction=True)
def test_payments_without_an_order_never_conflict(merchant):
    accept_raw(merchant)
    accept_raw(merchant, key="key-2")
    assert Payment.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_an_order_that_is_being_taken_at_this_moment_takes_no_second_payment(merchant):
    """Nobody can see the first one yet: the second waits for it, and then names it."""
    taken = Wish(
        merchant=merchant,
        mode=Mode.TEST,
        idempotency_key="key-1",
        request=PaymentRequest(amount=1000, currency="EUR", order_id="o-1"),
        request_id="r",
        now=timezone.now(),
    )

    def second():
        try:
            return accept_payments([replace(taken, idempotency_key="key-2")])[0]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            insert.insert_durably.__wrapped__([prepare(taken)])
            waiting = pool.submit(second)
            await_lock_waiter()
        refusal = waiting.result(10)
    assert isinstance(refusal, OrderPaymentActive), refusal
    assert refusal.payment_id == Payment.objects.get().pk


@pytest.mark.django_db(transaction=True)
def test_a_hundred_requests_for_one_order_make_one_payment(merchant):
    def one(number):
        try:
            accept_raw(merchant, key=f"key-{number}", order_id="o-1")
        except OrderConflict as refusal:
            return refusal.payment_id
        else:
            return None
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(100)))
    payment = Payment.objects.get()
    assert results.count(None) == 1
    assert results.count(payment.pk) == 99
    assert work().count() == 1
