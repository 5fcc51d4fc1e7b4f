"""Payments that are taken up together: each is claimed, charged and settled as it would be alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from uuid import uuid4

import pytest
from django.db import DataError, connection, connections, transaction
from django.db.models.functions import Now

from messaging import lanes, relay
from messaging.clock import elapsed_seconds
from messaging.escapes import Escaped
from messaging.models import OutboxMessage
from messaging.publisher import Published
from payments import transitions
from payments.gateways import loop, registry
from payments.gateways.base import Approved, Declined, OutcomeUnknown, Unavailable
from payments.models import Attempt, Payment, PaymentEvent
from payments.operations import process_payments
from payments.operations.claims import claim_payments, lock_payment
from payments.operations.process import SETTLE_PAUSE, end_of, settle_each
from payments.operations.settle import Answered, settle
from tests.chaos.fake_gateway import open_new_book
from tests.claiming import claim_one
from tests.outbox import announcements, work
from tests.system import eventually

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)


@pytest.fixture
def some(accept):
    def do(count):
        return [accept(f"key-{number}", order_id=f"order-{number}") for number in range(count)]

    return do


@pytest.fixture
def gateway(settings):
    """A gateway in this process; what it says is the test's business."""
    entry = {**settings.GATEWAYS["sandbox"], "OPTIONS": {}, "BACKEND": "tests.chaos.fake_gateway.FakeGateway"}
    settings.GATEWAYS = {"sandbox": entry}
    registry.get.cache_clear()
    yield open_new_book()
    registry.get.cache_clear()


@pytest.fixture
def said(gateway, monkeypatch):
    """Payment id -> what the gateway says, or is: an answer, an exception, or a coroutine function."""
    plan = {}

    async def charge(_self, request, *, deadline):
        answer = plan.get(request.payment_id, Approved(reference=f"ch_{request.payment_id.hex[-8:]}"))
        if callable(answer):
            return await answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr("tests.chaos.fake_gateway.FakeGateway.charge", charge)
    return plan


def pk_of(payments):
    return [payment.pk for payment in payments]


def states(payments):
    found = dict(Payment.objects.values_list("pk", "status"))
    return [found[payment.pk] for payment in payments]


@pytest.mark.parametrize("count", [1, 5, 64])
def test_no_payment_of_a_list_costs_a_statement_of_its_own(some, count, django_assert_num_queries):
    payments = some(count)
    with django_assert_num_queries(5):
        claims = claim_payments(pk_of(payments))
    with django_assert_num_queries(5):
        assert settle([Answered(claim, Approved(reference=str(claim.attempt_id))) for claim in claims]) == []
    assert states(payments) == ["succeeded"] * count
    assert Attempt.objects.filter(outcome="approved").count() == count
    for payment in Payment.objects.all():
        assert payment.gateway_reference == str(payment.attempts.get().pk)
        assert list(payment.events.order_by("version").values_list("version", "type")) == [
            (1, "payment.created"),
            (2, "payment.processing"),
            (3, "payment.succeeded"),
        ]
    assert announcements().count() == 3 * count


def test_answers_that_come_at_the_same_time_are_settled_together(some, said, django_assert_num_queries):
    payments = some(64)
    with django_assert_num_queries(10):
        process_payments(payment_ids=pk_of(payments))
    assert states(payments) == ["succeeded"] * 64


def test_each_payment_of_a_list_goes_its_own_way(some, said):
    payments = _, declined, refused, silent, final, leased, not_due = some(7)
    said[declined.pk] = Declined(decline_code="card_declined", detail="no")
    said[refused.pk] = Unavailable(detail="503")
    said[silent.pk] = OutcomeUnknown(detail="reset")
    process_payments(payment_ids=[final.pk])
    claim_one(leased.pk)
    said[not_due.pk] = Unavailable(detail="503")
    process_payments(payment_ids=[not_due.pk])
    process_payments(payment_ids=[*pk_of(payments), uuid4()])
    assert states(payments) == [
        "succeeded",
        "failed",
        "processing",
        "unknown",
        "succeeded",
        "processing",
        "processing",
    ]
    assert [payment.attempts.count() for payment in payments] == [1] * 7
    assert dict(Payment.objects.values_list("pk", "retries"))[refused.pk] == 1


def test_a_retry_and_a_first_charge_and_a_look_up_are_claimed_together(some, said):
    payments = retried, new, unknown = some(3)
    said[retried.pk] = Unavailable(detail="503")
    said[unknown.pk] = OutcomeUnknown(detail="reset")
    process_payments(payment_ids=[retried.pk, unknown.pk])
    said.clear()
    Payment.objects.filter(pk__in=[retried.pk, unknown.pk]).update(next_attempt_at=HOUR_AGO)
    kinds = {claim.request.payment_id: claim.kind for claim in claim_payments(pk_of(payments))}
    assert kinds == {retried.pk: "charge", new.pk: "charge", unknown.pk: "lookup"}
    assert PaymentEvent.objects.filter(payment=retried).count() == 2


def test_what_was_not_found_is_sent_again_within_the_same_list(some, said):
    payments = lost, _ = some(2)
    said[lost.pk] = OutcomeUnknown(detail="reset")
    process_payments(payment_ids=[lost.pk])
    said.clear()
    lost.attempts.update(started_at=HOUR_AGO, finished_at=HOUR_AGO)
    Payment.objects.filter(pk=lost.pk).update(next_attempt_at=HOUR_AGO)
    process_payments(payment_ids=pk_of(payments))
    assert states(payments) == ["succeeded", "succeeded"]
    assert list(lost.attempts.order_by("id").values_list("outcome", flat=True)) == ["unknown", "not_found", "approved"]


def test_an_answer_does_not_wait_for_a_slower_one_of_its_list(some, said):
    """The slow gateway answers only when the others' payments have ended."""
    slow, *others = payments = some(4)

    async def late():
        await asyncio.to_thread(until_all_succeeded, others)
        return Approved(reference="at last")

    said[slow.pk] = late
    process_payments(payment_ids=pk_of(payments))
    assert states(payments) == ["succeeded"] * 4


def until_all_succeeded(payments):
    try:
        eventually(lambda: set(states(payments)) == {"succeeded"}, within=15, what="the others have to wait")
    finally:
        connections.close_all()


@pytest.mark.parametrize("defect", [ValueError("a defect"), asyncio.CancelledError()])
def test_an_adapter_that_fails_for_one_payment_fails_for_no_other(some, said, defect):
    broken, *others = payments = some(3)
    said[broken.pk] = defect
    with pytest.raises(Escaped) as escaped:
        process_payments(payment_ids=pk_of(payments))
    assert escaped.value.failures == {str(broken.pk): defect}
    assert states(others) == ["succeeded", "succeeded"]
    assert states([broken]) == ["processing"]  # under its lease, and then looked up


def test_an_adapter_that_never_answers_does_not_keep_its_thread_for_ever(some, said, monkeypatch):
    """Its lease ends by the clock, which the test sets forward."""
    silent, *others = payments = some(3)
    said[silent.pk] = asyncio.Event().wait
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work_off, pk_of(payments))
        try:
            eventually(lambda: states(others) == ["succeeded", "succeeded"], within=10, what="the others succeed")
            assert not working.done()
            monkeypatch.setattr("messaging.clock.elapsed_seconds", lambda: elapsed_seconds() + 3600)
            loop.shared_loop().call_soon_threadsafe(int)  # it looks at its clock
            failure = working.exception(timeout=60)
        finally:
            monkeypatch.undo()
            loop.shared_loop().call_soon_threadsafe(cancel_all)
    assert isinstance(failure, Escaped)
    assert list(failure.failures) == [str(silent.pk)]
    assert states(others) == ["succeeded", "succeeded"]


def cancel_all():
    for task in loop.under_way:
        task.cancel()


def work_off(ids):
    try:
        process_payments(payment_ids=ids)
    finally:
        connections.close_all()


@pytest.mark.parametrize(("status", "left"), [("processing", "pending"), ("succeeded", "processing")])
def test_a_payment_that_cannot_be_written_holds_up_no_other(some, said, monkeypatch, status, left):
    broken, *others = payments = some(3)
    real = transitions.represent

    def represent(payment):
        if payment.pk == broken.pk and payment.status == status:
            raise ValueError("a defect")
        return real(payment)

    monkeypatch.setattr(transitions, "represent", represent)
    with pytest.raises(Escaped) as escaped:
        process_payments(payment_ids=pk_of(payments))
    assert list(escaped.value.failures) == [str(broken.pk)]
    assert states(others) == ["succeeded", "succeeded"]
    assert states([broken]) == [left]


def test_an_answer_that_cannot_be_stored_keeps_no_other_of_its_list_from_it(some, monkeypatch):
    broken, *others = payments = some(3)
    answered = [Answered(claim, Approved(reference="ch")) for claim in claim_payments(pk_of(payments))]
    real = transitions.represent

    def represent(payment):
        if payment.pk == broken.pk:
            raise ValueError("a defect")
        return real(payment)

    monkeypatch.setattr(transitions, "represent", represent)
    failures = {}
    assert settle_each(answered, failures, ends=end_of(answered)) == []
    assert list(failures) == [broken.pk]
    assert states(others) == ["succeeded", "succeeded"]


def test_an_answer_to_a_payment_that_somebody_has_locked_holds_up_no_other(some):
    locked, *others = payments = some(3)
    answered = [Answered(claim, Approved(reference="ch")) for claim in claim_payments(pk_of(payments))]
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            lock_payment(locked.pk)
            settling = pool.submit(settle_here, answered)
            eventually(lambda: states(others) == ["succeeded", "succeeded"], within=10, what="the others have to wait")
        assert settling.result() == {}
    assert states([locked]) == ["succeeded"]


def settle_here(answered):
    failures = {}
    try:
        settle_each(answered, failures, ends=end_of(answered))
    finally:
        connections.close_all()
    return failures


def test_the_answers_of_a_list_do_not_wait_for_the_database_one_after_the_other(some, monkeypatch):
    """RabbitMQ takes a message back that is not acknowledged within half an hour."""
    payments = some(6)
    claims = claim_payments(pk_of(payments))
    declined = Declined(decline_code="card_declined", detail="no")
    answered = [Answered(claim, Approved(reference="ch")) for claim in claims[:3]]
    answered += [Answered(claim, declined) for claim in claims[3:]]
    clock = Clock()
    failures = {}
    with monkeypatch.context() as away:
        away.setattr("payments.operations.process.time", clock)
        away.setattr("payments.operations.process.clock", clock)
        away.setitem(connection.settings_dict, "PORT", "1")
        connection.close()
        settle_each(answered, failures, ends=end_of(answered))
        connection.close()
    assert sorted(failures) == sorted(pk_of(payments))
    assert clock.slept <= claims[0].gateway.lease.total_seconds() + SETTLE_PAUSE


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self):
        self.began, self.slept = elapsed_seconds(), 0.0

    def elapsed_seconds(self):
        return self.began + self.slept

    def sleep(self, seconds):
        self.slept += seconds


def test_a_lock_that_one_payment_cannot_have_fails_the_claim_of_no_other(some, said):
    stuck, other = payments = some(2)
    claim_one(stuck.pk)
    Payment.objects.filter(pk=stuck.pk).update(lease_expires_at=HOUR_AGO)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 100")
    with ThreadPoolExecutor(1) as pool, lock_held(pool, stuck.attempts.all()), pytest.raises(Escaped) as escaped:
        process_payments(payment_ids=pk_of(payments))
    assert list(escaped.value.failures) == [str(stuck.pk)]
    assert states([other]) == ["succeeded"]


@contextmanager
def lock_held(pool, rows):
    """Another session has locked these."""
    locked, enough = Event(), Event()

    def hold():
        with transaction.atomic():
            list(rows.select_for_update())
            locked.set()
            enough.wait(300)
        connections.close_all()

    holding = pool.submit(hold)
    assert locked.wait(60)
    try:
        yield
    finally:
        enough.set()
        holding.result()


def test_a_late_approval_among_others_is_a_late_success_and_they_are_none(some):
    late, *others = payments = some(3)
    claims = claim_payments(pk_of(payments))
    Payment.objects.filter(pk=late.pk).update(lease_expires_at=HOUR_AGO)
    (look_up,) = claim_payments([late.pk])
    settle([Answered(look_up, Declined(decline_code="card_declined", detail="no"))])
    settle([Answered(claim, Approved(reference=f"ch_{claim.attempt_id}")) for claim in claims])
    late.refresh_from_db()
    assert (late.status, late.needs_review, late.error_code) == ("failed", True, "late_success")
    assert states(others) == ["succeeded", "succeeded"]


def test_approvals_that_are_stored_twice_count_once(some):
    payments = some(3)
    answered = [Answered(claim, Approved(reference="ch")) for claim in claim_payments(pk_of(payments))]
    settle(answered[:2])
    settle(answered)
    assert states(payments) == ["succeeded"] * 3
    assert PaymentEvent.objects.filter(type="payment.succeeded").count() == 3


def test_a_list_that_comes_to_many_workers_at_once_is_charged_once(some, gateway):
    payments = some(20)
    orders = [pk_of(payments), pk_of(payments)[::-1], pk_of(payments)[5:], pk_of(payments)[:15]]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work_off, orders))
    assert [gateway.charges_of(payment.pk) for payment in payments] == [1] * 20
    assert states(payments) == ["succeeded"] * 20


# --- on the way


def lists_of(rows):
    return [[id_ for row in alike for id_ in row.payload["ids"]] for alike in relay.joined(rows)]


def due(*ids, **fields):
    return OutboxMessage(queue="payments", actor="process_payments", payload={"ids": list(ids)}, **fields)


def test_due_payments_travel_together_and_no_list_is_too_long():
    rows = [due(str(number)) for number in range(130)]
    assert lists_of(rows) == [[str(n) for n in part] for part in (range(64), range(64, 128), range(128, 130))]


@pytest.mark.parametrize(
    "odd",
    [
        due("x", options={"escapes": 1}),
        due("x", options={"replay_of": 7}),
        OutboxMessage(queue="payments", actor="process_payments", payload={"ids": ["x"], "more": 1}),
        OutboxMessage(queue="payments", actor="handle_gateway_events", payload={"ids": ["x"]}),
    ],
)
def test_what_has_a_story_of_its_own_travels_alone(odd):
    assert lists_of([due("1"), odd, due("2")]) == [["1", "2"], ["x"]]


def test_a_list_is_confirmed_or_refused_as_a_whole(some):
    some(3)
    recorder = Refusing()
    relay.run_once(recorder, lane=lanes.WORK)
    assert [row.returns for row in work()] == [1, 1, 1]
    work().update(available_at=Now())
    recorder.refuse = False
    relay.run_once(recorder, lane=lanes.WORK)
    assert not work().exists()
    first, second = (message.message_id for message in recorder.messages)
    assert first != second, "the next time it may have others in it"


class Refusing:
    """A publisher that refuses everything until it does not."""

    refuse = True

    def __init__(self):
        self.messages = []

    def publish(self, envelopes):
        self.messages += envelopes
        ids = {envelope.message_id for envelope in envelopes}
        return Published(refused=ids) if self.refuse else Published(confirmed=ids)


@pytest.mark.parametrize(
    ("request_ids", "told"),
    [(("a", "a"), {"request_id": "a"}), (("a", "b"), {"request_id": "", "request_ids": {"0": "a", "1": "b"}})],
)
def test_a_list_is_of_one_request_or_tells_each(request_ids, told):
    rows = [due(str(n), request_id=request_id) for n, request_id in enumerate(request_ids)]
    assert relay.to_message(rows).options == told


def test_no_text_is_cut_off_to_fit_its_column(some):
    (payment,) = some(1)
    with pytest.raises(DataError, match="too long"), transaction.atomic():
        transitions.stay(payment, error_code="x" * 51)


def test_no_process_has_more_calls_under_way_than_its_loop_bears(some, said, monkeypatch):
    monkeypatch.setattr(loop, "room", asyncio.Semaphore(2))
    under_way, most = 0, 0

    async def answer():
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Approved(reference="ch")

    payments = some(8)
    said.update(dict.fromkeys(pk_of(payments), answer))
    process_payments(payment_ids=pk_of(payments))
    assert most == 2
    assert states(payments) == ["succeeded"] * 8
