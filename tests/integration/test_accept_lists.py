"""Step 1 for a list: one statement, and of each wish exactly what would become of it alone and in its turn."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from uuid import UUID

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from merchants.models import Mode
from messaging.models import OutboxMessage
from payments.errors import (
    AmountAboveCeiling,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    NoGateway,
    OrderAlreadyPaid,
    OrderPaymentActive,
    TooManyPayments,
)
from payments.idempotency import Answer
from payments.models import IdempotencyKey, Payment, PaymentEvent
from payments.operations import PaymentRequest, Wish, accept_payments, insert, process_payments
from payments.operations import accept as accept_module
from payments.operations.wishes import prepare
from payments.velocity import blocks_in_force
from tests.outbox import announcements, subscribed, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def wish(merchant):
    def make(key, *, mode=Mode.TEST, admitted=True, owner=merchant, **fields):
        request = PaymentRequest(**{"amount": 1000, "currency": "EUR", **fields})
        return Wish(
            merchant=owner,
            mode=mode,
            idempotency_key=key,
            request=request,
            request_id=f"r-{key}",
            now=timezone.now(),
            admitted=admitted,
        )

    return make


def told(outcomes):
    """Each outcome in a word."""
    return [
        ("replayed" if outcome.replayed else "accepted") if isinstance(outcome, Answer) else type(outcome)
        for outcome in outcomes
    ]


def id_of(answer):
    return UUID(answer.location.rpartition("/")[2])


def test_a_list_is_accepted_by_one_statement_each_with_all_that_belongs_to_it(wish, django_assert_num_queries):
    wishes = [wish(f"key-{number}", order_id=f"o-{number}", amount=number + 1) for number in range(40)]
    blocks_in_force.renew()  # once a second
    with django_assert_num_queries(4):  # BEGIN and COMMIT, and the notification
        outcomes = accept_payments(wishes)
    assert told(outcomes) == ["accepted"] * 40
    for asked, outcome in zip(wishes, outcomes, strict=True):
        payment = Payment.objects.get(pk=id_of(outcome))
        key, event = payment.idempotency_keys.get(), payment.events.get()
        assert (payment.order_id, payment.amount) == (asked.request.order_id, asked.request.amount)
        assert (key.key, key.body, key.replays) == (asked.idempotency_key, outcome.body, 0)
        assert (event.type, event.version, event.request_id) == ("payment.created", 1, asked.request_id)
        assert work().filter(payload={"ids": [str(payment.pk)]}, request_id=asked.request_id).count() == 1
        assert announcements().filter(message_id=event.pk).count() == 1
        assert subscribed().filter(payload={"ids": [str(event.pk)]}).count() == 1
    assert work().count() == 40


def test_each_wish_of_a_list_has_its_own_outcome(wish, merchant, sandbox):
    merchant.amount_ceilings = {"USD": "5.00"}
    old = accept_payments([wish("old", order_id="paid"), wish("other", order_id="active")])
    process_payments(payment_ids=[id_of(old[0])])
    outcomes = accept_payments(
        [
            wish("old", order_id="paid"),
            wish("new-1"),
            wish("other", order_id="active", amount=1),
            wish("new-2", order_id="paid"),
            wish("new-3", order_id="active"),
            wish("live", mode=Mode.LIVE, payment_method="pm"),
            wish("high", currency="USD"),
            wish("over", admitted=False),
            wish("other", order_id="active", admitted=False),
            wish("new-4"),
        ]
    )
    assert told(outcomes) == [
        "replayed",
        "accepted",
        IdempotencyKeyReused,
        OrderAlreadyPaid,
        OrderPaymentActive,
        NoGateway,
        AmountAboveCeiling,
        TooManyPayments,
        "replayed",
        "accepted",
    ]
    assert outcomes[0].body == old[0].body
    assert outcomes[3].payment_id == id_of(old[0])
    assert outcomes[4].payment_id == id_of(old[1])
    assert set(IdempotencyKey.objects.values_list("key", "replays")) == {
        ("old", 1),
        ("other", 1),
        ("new-1", 0),
        ("new-4", 0),
    }
    assert Payment.objects.count() == 4
    assert PaymentEvent.objects.filter(type="payment.created").count() == 4


def test_what_is_refused_leaves_no_dead_rows_in_the_large_tables(wish):
    """A merchant above its limit would bloat them by each request."""
    with transaction.atomic():
        insert.run([prepare(wish("over", admitted=False))], patience=None)
        assert IdempotencyKey.objects.count() == 1, "a twin waits for it"
        assert (Payment.objects.count(), PaymentEvent.objects.count(), OutboxMessage.objects.count()) == (0, 0, 0)
        transaction.set_rollback(True)


def test_a_list_above_the_limit_costs_no_more_than_one_below_it(wish, django_assert_num_queries):
    """Each payment of a batch in a transaction of its own: who is refused would keep a thread busy for seconds."""
    blocks_in_force.renew()  # once a second
    wishes = [wish(f"key-{number}", order_id=f"o-{number % 7}", admitted=False) for number in range(40)]
    with django_assert_num_queries(3):  # BEGIN and ROLLBACK
        assert told(accept_payments([*wishes, *wishes])) == [TooManyPayments] * 80
    assert not IdempotencyKey.objects.exists()


def test_a_list_that_is_sent_again_above_the_limit_is_repeated_together(wish, django_assert_num_queries):
    """Its first answer was lost, and it had used up all tokens."""
    blocks_in_force.renew()  # once a second
    wishes = [wish(f"key-{number}", order_id=f"o-{number}") for number in range(40)]
    accept_payments(wishes)
    with django_assert_num_queries(6):  # one looks who is new, and one repeats; each with BEGIN and its end
        assert told(accept_payments([replace(each, admitted=False) for each in wishes])) == ["replayed"] * 40
    assert set(IdempotencyKey.objects.values_list("replays", flat=True)) == {1}


def test_a_refusal_is_of_one_wish_and_no_other_under_its_key(wish):
    accept_payments([wish("old")])
    outcomes = accept_payments(
        [
            wish("a", admitted=False),
            wish("a"),
            wish("b"),
            wish("b", admitted=False),
            wish("old", admitted=False),
            wish("old", amount=1, admitted=False),
            wish("c", admitted=False),
            wish("c", amount=1, admitted=False),
        ]
    )
    assert told(outcomes) == [
        TooManyPayments,
        "accepted",
        "accepted",
        "replayed",
        "replayed",
        IdempotencyKeyReused,
        TooManyPayments,
        TooManyPayments,
    ]
    assert set(IdempotencyKey.objects.values_list("key", "replays")) == {("old", 1), ("a", 0), ("b", 1)}


def test_wishes_that_claim_the_same_go_one_after_the_other(wish):
    outcomes = accept_payments(
        [
            wish("a", order_id="o-1"),
            wish("a", order_id="o-1"),
            wish("b", order_id="o-1"),
            wish("a", order_id="o-2"),
            wish("b", order_id="o-3"),
            wish("c", order_id="o-3"),
        ]
    )
    assert told(outcomes) == [
        "accepted",
        "replayed",
        OrderPaymentActive,
        IdempotencyKeyReused,
        "accepted",
        OrderPaymentActive,
    ]
    assert Payment.objects.count() == 2


def test_merchants_and_modes_do_not_meet_in_a_list(wish, other_merchant):
    outcomes = accept_payments([wish("a", order_id="o"), wish("a", order_id="o", owner=other_merchant)])
    assert told(outcomes) == ["accepted", "accepted"]


def test_what_the_database_refuses_in_one_wish_fails_alone(wish):
    """Text that the API would never let through."""
    outcomes = accept_payments([wish("a"), wish("b", description="\0"), wish("c", currency="EURO"), wish("d")])
    assert told(outcomes)[0] == told(outcomes)[3] == "accepted"
    assert all(isinstance(outcome, Exception) for outcome in outcomes[1:3])
    assert Payment.objects.count() == 2


def test_a_defect_at_one_wish_is_its_own(wish, monkeypatch):
    def prepare_but_one(asked):
        if asked.idempotency_key == "b":
            raise LookupError
        return prepare(asked)

    monkeypatch.setattr(accept_module, "prepare", prepare_but_one)
    assert told(accept_payments([wish("a"), wish("b"), wish("c")])) == ["accepted", LookupError, "accepted"]


def test_a_database_that_is_away_fails_the_list_and_the_next_time_nothing_is_doubled(wish, monkeypatch):
    wishes = [wish("a"), wish("a"), wish("b")]

    def away(*_args, **_kwargs):
        raise OperationalError

    monkeypatch.setattr(accept_module, "accept_alone", away)
    with pytest.raises(OperationalError):
        accept_payments(wishes)
    monkeypatch.undo()
    assert told(accept_payments(wishes)) == ["replayed", "replayed", "replayed"]
    assert Payment.objects.count() == 2


def test_one_that_waits_for_a_twin_holds_up_no_other_for_long(wish, monkeypatch):
    """The first request under a key hangs in its transaction: the others of the list are accepted before it ends."""
    monkeypatch.setattr(accept_module, "PATIENCE", 10)
    accepted_meanwhile = []

    def others():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1s'")
            return accept_payments([wish("a"), wish("hangs"), wish("b"), wish("also-hangs")])
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        insert.insert_durably.__wrapped__([prepare(wish("hangs")), prepare(wish("also-hangs"))])
        accepted_meanwhile = pool.submit(others).result(120)
    assert told(accepted_meanwhile) == ["accepted", IdempotencyKeyInUse, "accepted", IdempotencyKeyInUse]


def test_a_batch_sent_again_while_it_hangs_does_not_wait_for_each_of_its_payments(wish):
    """500 of them would hold a thread for a minute, and so would the next try."""
    wishes = [wish(f"hangs-{number}") for number in range(20)]
    waits = []

    def note(execute, statement, parameters, *rest):
        if isinstance(parameters, dict) and parameters.get("patience"):
            waits.append(int(parameters["patience"].removesuffix("ms")))
        return execute(statement, parameters, *rest)

    def again():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '200ms'")
            with connection.execute_wrapper(note):
                return accept_payments(wishes)
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        insert.insert_durably.__wrapped__([prepare(each) for each in wishes])
        assert told(pool.submit(again).result(120)) == [IdempotencyKeyInUse] * 20
    shared, *alone = waits
    assert shared == insert.PATIENCE
    assert len(alone) == 19
    assert sum(alone) < insert.PATIENCE


def test_what_many_share_waits_for_nobody_who_hangs(wish):
    """It is given up soon, however long one alone would wait: all go on by themselves."""

    def together():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 0")  # for ever
            return accept_module.accept_together([prepare(wish("a")), prepare(wish("hangs"))])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            insert.insert_durably.__wrapped__([prepare(wish("hangs"))])
            shared = pool.submit(together)
            assert wait([shared], timeout=60).done, "it waits for the twin"
        assert shared.result(60) == [None, None]


def test_lists_that_claim_the_same_in_other_orders_never_block_each_other(wish):
    """Keys and orders lie crosswise: whoever took them as they come would wait for the other in turn."""
    numbers = list(range(30))
    wishes = [wish(f"key-{number}", order_id=f"o-{29 - number}") for number in numbers]

    def accept_in(order):
        try:
            return accept_payments([replace(wishes[number]) for number in order])
        finally:
            connections.close_all()

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(accept_in, [numbers, numbers[::-1], numbers[10:], numbers[::-3]]))
        assert {kind for listed in outcomes for kind in told(listed)} <= {"accepted", "replayed"}
    assert Payment.objects.count() == 30
    assert Counter(kind for listed in outcomes for kind in told(listed)) == {"replayed": 30 + 30 + 20 + 10}
    assert sum(IdempotencyKey.objects.values_list("replays", flat=True)) == 3 * 90 - 30
