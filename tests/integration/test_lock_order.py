"""Statements that lock several rows lock them in one order, whatever the order of their input: no deadlock is possible.

In each test another session holds the row in the middle. The statement waits for it, and by then it has locked what
comes before that row, and nothing that comes after it.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from merchants.models import Mode
from payments.models import Payment
from payments.operations import PaymentRequest, Wish
from payments.operations.claims import lock_payment, lock_payments
from payments.operations.insert import run
from payments.operations.wishes import prepare
from tests.locks import await_lock_waiter

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def candidate(merchant):
    def make(key, order_id=""):
        request = PaymentRequest(amount=1000, currency="EUR", order_id=order_id)
        return prepare(
            Wish(
                merchant=merchant,
                mode=Mode.TEST,
                idempotency_key=key,
                request=request,
                request_id=f"r-{key}",
                now=timezone.now(),
                admitted=True,
            )
        )

    return make


@contextmanager
def waiting(work, *, held):
    """Another session runs `work` and waits for what this one has locked by `held`."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            held()
            blocked = pool.submit(in_own_session, work)
            await_lock_waiter()
            yield
            transaction.set_rollback(True)
        blocked.result(30)


def in_own_session(work, *, lock_timeout="0"):
    """What `work` returns, in a transaction that is rolled back."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [lock_timeout])
            try:
                return work()
            finally:
                transaction.set_rollback(True)
    finally:
        connections.close_all()


def is_locked(work):
    """Whether `work` has to wait for a lock of another session."""
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(in_own_session, work, lock_timeout="100ms").result(30)
        except OperationalError:
            return True
    return False


def insert(*candidates):
    return lambda: run(candidates, patience=None)


def lock_at_once(pk):
    if lock_payment(pk, skip_locked=True) is None:
        raise OperationalError("locked")


@pytest.mark.parametrize("stored", ["upwards", "downwards"])  # a join may turn round the order of the table
def test_payments_are_locked_in_the_order_of_their_ids(accept, stored):
    low, middle, high = ids = sorted(accept(f"key-{number}").pk for number in range(3))
    for pk in ids if stored == "upwards" else reversed(ids):  # the table holds them in this order now
        Payment.objects.filter(pk=pk).update(revivals=1)

    def lock_all_three():
        with connection.cursor() as cursor:  # an index would return them in order, and PostgreSQL need not use it
            cursor.execute("SET LOCAL enable_indexscan = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
        lock_payments([high, middle, low])

    with waiting(lock_all_three, held=lambda: lock_payment(middle)):
        locked = {pk for pk in (low, high) if is_locked(lambda pk=pk: lock_at_once(pk))}
    assert locked == {low}


def test_keys_are_claimed_in_their_order(candidate):
    all_three = insert(candidate("c"), candidate("b"), candidate("a"))
    with waiting(all_three, held=insert(candidate("b"))):
        locked = {key for key in ("a", "c") if is_locked(insert(candidate(key)))}
    assert locked == {"a"}


def test_orders_are_taken_in_their_order(candidate):
    """The keys lie the other way round."""
    all_three = insert(candidate("1", "c"), candidate("2", "b"), candidate("3", "a"))
    with waiting(all_three, held=insert(candidate("0", "b"))):
        locked = {order for order in ("a", "c") if is_locked(insert(candidate(f"of-{order}", order)))}
    assert locked == {"a"}


def test_orders_are_taken_after_all_keys(candidate):
    """A statement that waits for a key holds no order: the session that has the key may need that order."""
    with waiting(insert(candidate("1", "o-1"), candidate("2", "o-2")), held=insert(candidate("2", "o-3"))):
        assert not is_locked(insert(candidate("other", "o-1")))
