"""The table of moves holds in Python and, by itself, in the database: raw SQL cannot break what must never be false."""

import itertools
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.forms import model_to_dict
from django.utils import timezone

from merchants.models import Mode
from payments import transitions
from payments.events import EventType, entered
from payments.models import Attempt, Payment, PaymentEvent
from payments.operations.claims import lock_payment
from payments.states import FINAL, HOLDING, LEGAL_MOVES, Outcome, Status
from payments.transitions import IllegalMove, LostRace

pytestmark = pytest.mark.django_db

PAIRS = list(itertools.product(Status, Status))
LEGAL = [(source, to) for source, to in PAIRS if to in LEGAL_MOVES[source]]
ILLEGAL = [(source, to) for source, to in PAIRS if to not in LEGAL_MOVES[source]]


def columns_of(status):
    """The columns that a payment in a state must have, and how they look at their simplest."""
    final = status in FINAL
    return {
        "holds_order": status in HOLDING,
        "finished_at": timezone.now() if final else None,
        "revive_at": None if final else timezone.now() + timedelta(minutes=1),
        "amount_captured": 1000 if status == Status.SUCCEEDED else 0,
    }


@pytest.fixture
def payment_in(merchant):
    """A payment in a state, put there without a way."""

    def make(status, **columns):
        return Payment.objects.create(
            **{
                "merchant": merchant,
                "mode": Mode.TEST,
                "gateway": "sandbox",
                "amount": 1000,
                "currency": "EUR",
                "payment_method": "pm_ok",
                "request_id": "r",
                "status": status,
                "fence": 3,
                "created_at": timezone.now(),
                **columns_of(status),
                **columns,
            }
        )

    return make


def update(row, **columns):
    """Change a row by plain SQL, past everything that Python knows."""
    assignments = ", ".join(f"{name} = %s" for name in columns)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {row._meta.db_table} SET {assignments} WHERE id = %s", [*columns.values(), row.pk])
        assert cursor.rowcount == 1


def refused(reason, error=IntegrityError):
    """The database itself refuses, and for this reason."""
    return pytest.raises(error, match=reason)


def blocked(reason="pgtrigger: Cannot"):
    """A trigger refuses."""
    return refused(reason, ProgrammingError)


# --- the moves


@pytest.mark.parametrize(("source", "to"), LEGAL)
def test_a_legal_move_is_made_with_its_event_and_version(payment_in, source, to):
    payment = payment_in(source)
    now = timezone.now()
    with transaction.atomic():
        transitions.move(payment, to, now=now, **columns_of(to))
    stored = Payment.objects.get()
    assert (stored.status, stored.version) == (payment.status, payment.version) == (to, 2)
    event = PaymentEvent.objects.get()
    assert (event.payment_id, event.type, event.version, event.request_id) == (payment.pk, entered(to), 2, "r")
    assert (event.snapshot["status"], event.snapshot["schema"]) == (to, 1)
    assert stored.finished_at == (now if to in FINAL else None)


@pytest.mark.parametrize(("source", "to"), ILLEGAL)
def test_an_illegal_move_is_refused_and_changes_nothing(payment_in, source, to):
    payment = payment_in(source)
    with pytest.raises(IllegalMove, match=f"{source.value} -> {to.value}"), transaction.atomic():
        transitions.move(payment, to, now=timezone.now(), **columns_of(to))
    stored = Payment.objects.get()
    assert (stored.status, stored.version) == (source, 1)
    assert not PaymentEvent.objects.exists()


@pytest.mark.parametrize(("source", "to"), [(source, to) for source, to in ILLEGAL if source != to])
def test_the_database_alone_refuses_an_illegal_move(payment_in, source, to):
    payment = payment_in(source)
    with blocked(f'Invalid transition of field "status" from "{source.value}" to "{to.value}"'):
        update(payment, status=to.value, **columns_of(to))
    with blocked("Invalid transition"), transaction.atomic():
        Payment.objects.filter(pk=payment.pk).update(status=to, **columns_of(to))


@pytest.mark.parametrize(("source", "to"), LEGAL)
def test_the_database_lets_every_legal_move_pass(payment_in, source, to):
    update(payment_in(source), status=to.value, **columns_of(to))


def test_no_state_that_nobody_knows_is_stored(payment_in):
    with blocked("Invalid transition"):
        update(payment_in(Status.PENDING), status="paid")
    with refused("payment_status_known"), transaction.atomic():
        payment_in("paid")


@pytest.mark.parametrize("to", sorted(FINAL))
def test_nothing_stays_scheduled_once_a_payment_is_final(payment_in, to):
    soon = timezone.now() + timedelta(minutes=1)
    payment = payment_in(Status.PROCESSING, lease_expires_at=soon, next_attempt_at=soon)
    with transaction.atomic():
        transitions.move(payment, to, now=timezone.now(), amount_captured=1000)
    stored = Payment.objects.get()
    assert stored.lease_expires_at is stored.next_attempt_at is stored.revive_at is None


def test_a_move_by_somebody_who_did_not_hold_the_lock_is_lost(payment_in):
    mine = payment_in(Status.PROCESSING)
    theirs = Payment.objects.get()
    with transaction.atomic():
        transitions.move(theirs, Status.FAILED, now=timezone.now(), holds_order=False)
    with pytest.raises(LostRace), transaction.atomic():
        transitions.move(mine, Status.SUCCEEDED, now=timezone.now(), amount_captured=1000)
    assert Payment.objects.get().status == "failed"
    assert PaymentEvent.objects.count() == 1


def test_a_move_with_a_fence_of_yesterday_is_lost(payment_in):
    mine = payment_in(Status.PROCESSING)
    Payment.objects.update(fence=4)
    with pytest.raises(LostRace), transaction.atomic():
        transitions.move(mine, Status.SUCCEEDED, now=timezone.now(), amount_captured=1000)
    with pytest.raises(LostRace), transaction.atomic():
        transitions.stay(mine, retries=1)


def test_a_change_that_fails_leaves_the_payment_as_it_was_read(payment_in):
    mine = payment_in(Status.PROCESSING)
    read = model_to_dict(mine)
    Payment.objects.update(fence=4)
    with pytest.raises(LostRace), transaction.atomic():
        transitions.flag_for_review(mine, now=timezone.now(), error_code="charged_twice", holds_order=False)
    assert model_to_dict(mine) == read
    assert not mine.events.filter(type=EventType.NEEDS_REVIEW).exists()


@pytest.mark.django_db(transaction=True)
def test_no_payment_is_locked_outside_a_transaction(payment_in):
    with pytest.raises(AssertionError, match="ends with its transaction"):
        lock_payment(payment_in(Status.PENDING).pk)


def test_a_new_status_never_slips_in_as_another_change(payment_in):
    with pytest.raises(AssertionError), transaction.atomic():
        transitions.stay(payment_in(Status.PENDING), status=Status.PROCESSING)


@pytest.mark.django_db(transaction=True)
def test_no_payment_is_moved_outside_a_transaction(payment_in):
    payment = payment_in(Status.PENDING)
    with pytest.raises(AssertionError, match="in the transaction that locked it"):
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
    assert Payment.objects.get().status == "pending"


def test_asking_people_to_look_is_an_event_and_no_move(payment_in):
    payment = payment_in(Status.SUCCEEDED)
    with transaction.atomic():
        transitions.flag_for_review(payment, now=timezone.now(), error_code="charged_twice")
    stored = Payment.objects.get()
    assert (stored.status, stored.version, stored.needs_review) == ("succeeded", 2, True)
    assert [event.type for event in stored.events.all()] == [EventType.NEEDS_REVIEW]


# --- what each state must have


@pytest.mark.parametrize("status", Status)
def test_a_payment_is_finished_if_and_only_if_it_is_final(payment_in, status):
    finished_at = None if status in FINAL else timezone.now()
    with refused("payment_finished_iff_final"):
        update(payment_in(status), finished_at=finished_at)


@pytest.mark.parametrize("status", sorted(HOLDING))
def test_no_payment_lets_go_of_its_order_while_money_may_move(payment_in, status):
    with refused("payment_holds_its_order"):
        update(payment_in(status), holds_order=False)


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
def test_no_payment_in_work_is_out_of_the_rescues_sight(payment_in, status):
    with refused("payment_in_work_is_rescued"):
        update(payment_in(status), revive_at=None)


def test_no_unknown_outcome_is_left_without_a_look_up_or_people(payment_in):
    payment = payment_in(Status.UNKNOWN)
    with refused("payment_unknown_is_looked_up"):
        update(payment, revive_at=None)
    update(payment, revive_at=None, needs_review=True)
    with refused("payment_unknown_is_looked_up"):
        update(payment, needs_review=False)


@pytest.mark.parametrize("status", [Status.PENDING, *sorted(FINAL)])
def test_no_lease_is_held_where_nothing_is_to_be_asked(payment_in, status):
    with refused("payment_lease_only_in_work"):
        update(payment_in(status), lease_expires_at=timezone.now())


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"amount_captured": -1}, "payment_captured_within_amount"),
        ({"amount_captured": 1001}, "payment_captured_within_amount"),
        ({"amount_refunded": -1}, "payment_refunded_within_captured"),
        ({"amount_refunded": 1001}, "payment_refunded_within_captured"),
        ({"amount_captured": 500, "amount_refunded": 501}, "payment_refunded_within_captured"),
        ({"amount_captured": 0}, "payment_succeeded_has_captured"),
    ],
)
def test_no_more_is_captured_than_asked_nor_refunded_than_captured(payment_in, columns, constraint):
    with refused(constraint), transaction.atomic():  # as a new row: a trigger keeps what was captured
        payment_in(Status.SUCCEEDED, **columns)


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"amount": 0}, "payment_amount_positive"),
        ({"amount": -1}, "payment_"),
        ({"mode": "prod"}, "payment_mode_known"),
    ],
)
def test_no_payment_begins_with_nonsense(payment_in, columns, constraint):
    with refused(constraint), transaction.atomic():
        payment_in(Status.PENDING, **columns)


# --- what never changes


def test_the_fence_never_falls(payment_in):
    payment = payment_in(Status.PROCESSING)
    update(payment, fence=4)
    update(payment, fence=4)
    with blocked():
        update(payment, fence=3)


@pytest.mark.parametrize("status", [Status.PENDING, Status.SUCCEEDED])
@pytest.mark.parametrize(
    "columns",
    [
        {"amount": 1001},
        {"amount": 1},
        {"currency": "USD"},
        {"order_id": "o-2"},
        {"order_id": ""},
        {"mode": "live"},
        {"created_at": timezone.now() - timedelta(days=1)},
    ],
    ids=lambda columns: "{}={}".format(*next(iter(columns.items())))[:15],
)
def test_what_was_asked_never_changes(payment_in, status, columns):
    with blocked():
        update(payment_in(status, order_id="o-1"), **columns)


def test_a_payment_never_changes_hands(payment_in, other_merchant):
    with blocked():
        update(payment_in(Status.PENDING), merchant_id=other_merchant.pk)


@pytest.fixture
def attempt_on():
    def make(payment, fence=1, **columns):
        return Attempt.objects.create(
            payment=payment, kind="charge", gateway_key=uuid4().hex, fence=fence, started_at=timezone.now(), **columns
        )

    return make


def finished(outcome=Outcome.APPROVED):
    return {"outcome": outcome, "finished_at": timezone.now()}


def delete(row):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {row._meta.db_table} WHERE id = %s", [row.pk])


@pytest.mark.parametrize("status", Status)
def test_no_payment_is_ever_deleted(payment_in, status):
    with blocked("Cannot delete"):
        delete(payment_in(status))


def test_no_attempt_is_ever_deleted(payment_in, attempt_on):
    payment = payment_in(Status.PROCESSING)
    for attempt in (attempt_on(payment, 1, **finished()), attempt_on(payment, 2)):
        with blocked("Cannot delete"):
            delete(attempt)


def test_no_event_is_ever_changed_or_deleted(payment_in):
    payment = payment_in(Status.PENDING)
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
    event = PaymentEvent.objects.get()
    with blocked("Cannot update or delete"):
        delete(event)
    for columns in ({"type": "payment.succeeded"}, {"snapshot": "{}"}, {"version": 1}, {"payment_id": uuid4()}):
        with blocked("Cannot update or delete"):
            update(event, **columns)


def event_of(payment, event_type):
    return PaymentEvent.objects.create(
        payment=payment, merchant_id=payment.merchant_id, mode=payment.mode, type=event_type, version=1, snapshot={}
    )


def test_no_two_events_make_the_same_version(payment_in):
    payment = payment_in(Status.PENDING)
    event_of(payment, "payment.created")
    with refused("one_event_per_version"), transaction.atomic():
        event_of(payment, "payment.processing")


# --- what there is only one of


def test_no_payment_has_two_unfinished_attempts(payment_in, attempt_on):
    payment = payment_in(Status.PROCESSING)
    first = attempt_on(payment, 1)
    with refused("one_unfinished_attempt"), transaction.atomic():
        attempt_on(payment, 2)
    update(first, **finished() | {"outcome": "abandoned"})  # a trigger keeps what was answered
    second = attempt_on(payment, 2)
    with refused("one_unfinished_attempt"):
        update(first, outcome="", finished_at=None)
    assert second.finished_at is None


def test_no_fence_has_two_attempts(payment_in, attempt_on):
    payment = payment_in(Status.PROCESSING)
    attempt_on(payment, 1, **finished())
    with refused("one_attempt_per_fence"), transaction.atomic():
        attempt_on(payment, 1, **finished())


@pytest.mark.parametrize("columns", [{"outcome": ""}, {"finished_at": None}])
def test_an_attempt_is_finished_if_and_only_if_it_has_an_outcome(payment_in, attempt_on, columns):
    with refused("attempt_finished_iff_outcome"):
        update(attempt_on(payment_in(Status.PROCESSING), **finished() | {"outcome": "abandoned"}), **columns)


@pytest.mark.parametrize("outcome", sorted({*Outcome.values} - {Outcome.ABANDONED}))
@pytest.mark.parametrize(
    "columns", [{"outcome": ""}, {"outcome": "abandoned"}, {"gateway_reference": "another"}, {"code": "another"}]
)
def test_no_recorded_answer_is_replaced(payment_in, attempt_on, outcome, columns):
    attempt = attempt_on(payment_in(Status.PROCESSING), **finished() | {"outcome": outcome})
    with blocked():
        update(attempt, **columns)


@pytest.mark.parametrize("columns", [{"amount_captured": 999}, {"gateway_reference": "another"}, {"key_number": 2}])
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_no_captured_charge_becomes_another(payment_in, status, columns):
    with blocked():
        update(payment_in(status, amount_captured=1000, gateway_reference="ch_1"), **columns)


@pytest.mark.parametrize("holder", sorted(HOLDING))
@pytest.mark.parametrize("second", sorted(HOLDING))
def test_no_order_has_two_holders(payment_in, holder, second):
    payment_in(holder, order_id="o-1")
    with refused("one_payment_holds_an_order"), transaction.atomic():
        payment_in(second, order_id="o-1")


def test_a_failed_payment_takes_its_order_back_only_while_it_is_free(payment_in):
    failed = payment_in(Status.FAILED, order_id="o-1")
    update(failed, holds_order=True)
    update(failed, holds_order=False)
    payment_in(Status.PENDING, order_id="o-1")
    with refused("one_payment_holds_an_order"):
        update(failed, holds_order=True)


def test_only_payments_of_one_merchant_and_mode_share_orders(payment_in, other_merchant):
    payment_in(Status.PENDING, order_id="o-1")
    payment_in(Status.PENDING, order_id="o-1", merchant=other_merchant)
    payment_in(Status.PENDING, order_id="o-1", mode=Mode.LIVE)
    payment_in(Status.PENDING, order_id="o-2")
    payment_in(Status.PENDING, order_id="")
    payment_in(Status.PENDING, order_id="")
    assert Payment.objects.count() == 6
