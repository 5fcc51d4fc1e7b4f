"""Back from the dead: a replayed payment is charged at most once, under the key that the gateway's own word allows."""

from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from merchants.audit import by_shell
from messaging.judgements import Verdict
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.previews import preview
from messaging.resolutions import work_off
from messaging.selections import Selection
from payments import breaker, replay
from payments.errors import OrderAlreadyPaid
from payments.gateways.base import Approved, Declined, NotFound, OutcomeUnknown, Unavailable
from payments.models import Payment
from payments.operations import outcomes, process_payments
from payments.operations.claims import lock_payment
from payments.operations.replay import IN_HAND, PAID_OTHERWISE, UNDER_WAY
from payments.states import AttemptKind
from tests.claiming import claim_one, settle_one
from tests.decisions import resolve

pytestmark = pytest.mark.django_db(transaction=True)

HOUR_AGO = Now() - timedelta(hours=1)
REPLAY = Resolution.Action.REPLAY


@pytest.fixture
def dead(accept):
    """A payment that died of a gateway that never took it."""

    def make(key="key-1", **fields):
        payment = accept(key, **fields)
        answers(payment, *[Unavailable(detail="503")] * 4)
        assert (payment.status, payment.error_code) == ("failed", "retries_exhausted")
        OutboxMessage.objects.all().delete()
        return payment

    return make


def answers(payment, *said):
    """Let the payment's calls be answered so, one after another, each at once; returns what each call had asked."""
    asked = []
    for answer in said:
        Payment.objects.filter(pk=payment.pk, next_attempt_at__isnull=False).update(next_attempt_at=HOUR_AGO)
        claim = claim_one(payment.pk)
        while claim is not None:
            asked.append((claim.kind, claim.request.key.rpartition(":")[2]))
            claim = settle_one(claim, answer)
            if claim is not None:
                asked.append((claim.kind, claim.request.key.rpartition(":")[2]))
                break
    payment.refresh_from_db()
    return asked


def send_back(payment):
    """Replay all that is open, as staff would."""
    resolution = resolve(Selection(), REPLAY, reason="the gateway is back", by="staff")
    done = work_off(resolution.pk)
    payment.refresh_from_db()
    return done


# --- failed -> pending


def test_a_dead_payment_goes_back_with_its_letter_and_its_message_in_one_commit(dead):
    payment = dead(order_id="o-1")
    before = timezone.now()
    done = send_back(payment)
    assert (done.state, done.total, done.replayed) == ("done", 1, 1)
    assert (payment.status, payment.holds_order, payment.retries, payment.error_code) == ("pending", True, 0, "")
    assert payment.finished_at is None
    assert payment.revive_at > before
    assert payment.charge_before > before + timedelta(hours=23)
    assert payment.events.order_by("version").last().type == "payment.replayed"
    letter, message = DeadLetter.objects.get(), OutboxMessage.objects.get(actor="process_payments")
    assert (letter.state, letter.replayed_as) == ("replayed", message.message_id)
    assert message.message_id != letter.message_id
    assert (message.payload, message.options) == ({"ids": [str(payment.pk)]}, {"replay_of": letter.pk})


def test_a_crash_in_the_middle_of_a_replay_leaves_nothing_of_it(dead, monkeypatch):
    payment = dead()
    resolution = resolve(Selection(), REPLAY, reason="r", by="staff")
    monkeypatch.setattr("messaging.resolutions.failpoint", lambda _name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work_off(resolution.pk)
    payment.refresh_from_db()
    assert (payment.status, DeadLetter.objects.get().state) == ("failed", "open")
    assert not OutboxMessage.objects.filter(actor="process_payments").exists()
    monkeypatch.undo()
    assert work_off(resolution.pk).replayed == 1


def test_a_replay_of_what_was_never_sent_charges_without_asking_first(accept, sandbox):
    payment = accept()
    Payment.objects.filter(pk=payment.pk).update(charge_before=HOUR_AGO)
    process_payments(payment_ids=[payment.pk])
    send_back(payment)
    assert not payment.look_up_first
    process_payments(payment_ids=[payment.pk])
    payment.refresh_from_db()
    assert (payment.status, payment.charge_attempts) == ("succeeded", 1)


# --- the gateway's key


def test_a_replay_never_charges_before_the_gateway_was_asked_about_the_key(dead):
    payment = dead()
    send_back(payment)
    assert claim_one(payment.pk).kind == AttemptKind.LOOKUP


def test_a_charge_that_arrived_after_all_is_not_made_again(dead):
    payment = dead()
    send_back(payment)
    assert answers(payment, Approved(reference="ch_1")) == [("lookup", "1")]
    assert (payment.status, payment.amount_captured, payment.look_up_first) == ("succeeded", 1000, True)


def test_what_the_gateway_does_not_know_is_charged_under_the_same_key(dead):
    payment = dead()
    send_back(payment)
    assert answers(payment, NotFound()) == [("lookup", "1"), ("charge", "1")]
    assert (payment.status, payment.key_number) == ("processing", 1)


def test_what_the_gateway_has_declined_is_charged_under_the_next_key(dead):
    payment = dead()
    send_back(payment)
    asked = answers(payment, Declined(decline_code="insufficient_funds", detail=""))
    assert asked == [("lookup", "1"), ("charge", "2")]
    assert (payment.status, payment.key_number) == ("processing", 2)


def test_past_the_keys_window_nothing_is_sent_again(dead):
    """The charge may have been delivered, so long ago that the gateway would not recognise its key."""
    payment = dead()
    send_back(payment)
    two_days_ago = timezone.now() - timedelta(days=2)
    then = {"started_at": two_days_ago, "finished_at": two_days_ago, "outcome": "unknown"}
    payment.attempts.create(kind="charge", gateway_key=payment.gateway_key, fence=0, **then)
    assert answers(payment, NotFound()) == [("lookup", "1")]
    assert (payment.status, payment.look_up_first) == ("unknown", False)


def test_a_worker_that_died_asking_leaves_the_question_and_no_unknown_outcome(dead):
    payment = dead()
    send_back(payment)
    claim_one(payment.pk)
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=HOUR_AGO)
    claim = claim_one(payment.pk)
    payment.refresh_from_db()
    assert (claim.kind, payment.status, payment.look_up_first) == (AttemptKind.LOOKUP, "processing", True)
    following = settle_one(claim, Declined(decline_code="do_not_honor", detail=""))
    assert following.request.key.endswith(":charge:2")


@pytest.mark.parametrize("answer", [Unavailable(detail="503"), OutcomeUnknown(detail="reset")])
def test_an_unreachable_look_up_proves_nothing_and_ends_in_a_new_letter(dead, answer):
    payment = dead()
    send_back(payment)
    assert answers(payment, *[answer] * 4) == [("lookup", "1")] * 4
    assert (payment.status, payment.error_code) == ("failed", "retries_exhausted")
    first, second = DeadLetter.objects.order_by("id")
    assert (first.state, second.state, second.previous) == ("replayed", "open", first)
    assert payment.charge_attempts == 4


def test_a_look_up_waits_for_a_paused_gateway_like_any_call(dead):
    payment = dead()
    send_back(payment)
    breaker.pause("sandbox", reason="r", who=by_shell("staff"))
    assert claim_one(payment.pk) is None
    payment.refresh_from_db()
    assert (payment.status, payment.look_up_first) == ("processing", True)
    assert payment.held_since is not None


def test_a_late_approval_settles_a_payment_that_waits_for_its_replay(accept):
    payment = accept()
    claim = claim_one(payment.pk)
    Payment.objects.filter(pk=payment.pk).update(lease_expires_at=HOUR_AGO)
    lookup = claim_one(payment.pk)
    settle_one(lookup, Declined(decline_code="card_declined", detail=""))
    Payment.objects.filter(pk=payment.pk).update(error_code="retries_exhausted")
    with transaction.atomic():
        assert replay.OWNER.send_back(str(payment.pk), now=timezone.now()).verdict == Verdict.GOES
    settle_one(claim, Approved(reference="ch_late"))
    payment.refresh_from_db()
    assert (payment.status, payment.amount_captured, payment.needs_review) == ("succeeded", 1000, False)


@pytest.mark.parametrize("answer", [NotFound(), Declined(decline_code="do_not_honor", detail="")])
def test_nothing_is_charged_at_a_gateway_that_was_paused_during_the_look_up(dead, answer):
    payment = dead()
    send_back(payment)
    lookup = claim_one(payment.pk)
    breaker.pause("sandbox", reason="r", who=by_shell("staff"))
    assert settle_one(lookup, answer) is None
    breaker.resume("sandbox", who=by_shell("staff"))
    assert claim_one(payment.pk).kind == AttemptKind.LOOKUP


# --- who may go back


def test_a_payment_whose_order_has_another_one_under_way_stays_failed(dead, accept):
    payment = dead(order_id="o-1")
    accept("key-2", order_id="o-1")
    assert preview(Selection()).notes == {UNDER_WAY: 1}
    done = send_back(payment)
    assert (done.blocked, payment.status, payment.holds_order) == (1, "failed", False)
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.note) == ("open", UNDER_WAY)


def test_a_payment_whose_order_was_paid_meanwhile_is_never_charged(dead, accept, sandbox):
    payment = dead(order_id="o-1")
    process_payments(payment_ids=[accept("key-2", order_id="o-1").pk])
    assert preview(Selection()).count(Verdict.SETTLED) == 1
    done = send_back(payment)
    assert (done.superseded, payment.status) == (1, "failed")
    assert DeadLetter.objects.get().note == PAID_OTHERWISE
    assert len(sandbox.charges()) == 1


def test_a_preview_promises_an_order_one_charge_however_many_have_died_for_it(dead):
    first, second = dead(order_id="o-1"), dead("key-2", order_id="o-1")
    dead("key-3")
    dead("key-4")
    letter_of(first)
    shown = preview(Selection())
    assert (shown.count(Verdict.GOES), shown.count(Verdict.BLOCKED), shown.sums) == (4, 1, {"EUR": 3000})
    done = send_back(second)
    assert (done.replayed, done.blocked, second.status) == (4, 1, "failed")


@pytest.fixture
def paid_late(dead, accept):
    """A payment that was paid late, while the order's next payment had the order; and that one."""
    first = dead(order_id="o-1")
    second = accept("key-2", order_id="o-1")
    with transaction.atomic():
        late = lock_payment(first.pk)
        outcomes.learn(late.payment, Approved(reference="ch_late"), now=late.now)
    first.refresh_from_db()
    assert (first.amount_captured, first.holds_order) == (1000, False)
    return first, second


@pytest.mark.parametrize(
    "said",
    [[Unavailable(detail="503")] * 4, [Declined(decline_code="do_not_honor", detail="")]],
    ids=["dead", "declined"],
)
def test_an_order_that_was_paid_late_goes_to_its_payer_once_it_is_free(paid_late, accept, said):
    """And to no third payment."""
    first, second = paid_late
    answers(second, *said)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (second.status, second.holds_order, first.holds_order) == ("failed", False, True)
    with pytest.raises(OrderAlreadyPaid):
        accept("key-3", order_id="o-1")


def test_an_order_that_was_paid_late_without_being_held_is_not_charged_again(paid_late):
    """The late money came while the order's next payment had the order, and that one has died since."""
    first, second = paid_late
    with elsewhere_locked("payments_payment", first.pk):
        answers(second, *[Unavailable(detail="503")] * 4)
    first.refresh_from_db()
    assert (first.holds_order, second.status) == (False, "failed")
    assert preview(Selection()).count(Verdict.GOES) == 0
    assert send_back(second).superseded == 2
    assert (second.status, DeadLetter.objects.get(subject=f"payment:{second.pk}").note) == ("failed", PAID_OTHERWISE)


def test_a_payment_that_was_paid_late_is_settled_and_not_charged_again(dead):
    payment = dead()
    Payment.objects.filter(pk=payment.pk).update(amount_captured=1000, needs_review=True)
    done = send_back(payment)
    assert (done.superseded, payment.status) == (1, "failed")


def test_a_payment_in_somebodys_hand_is_left_to_them(dead):
    payment = dead()
    resolution = resolve(Selection(), REPLAY, reason="r", by="staff")
    with elsewhere_locked("payments_payment", payment.pk):
        assert work_off(resolution.pk).blocked == 1
    assert DeadLetter.objects.get().note == IN_HAND


def test_a_stray_message_that_holds_a_payment_for_an_instant_leaves_no_letter_behind(dead, monkeypatch):
    payment = dead()
    resolution = resolve(Selection(), REPLAY, reason="r", by="staff")
    with ExitStack() as stray:
        stray.enter_context(elsewhere_locked("payments_payment", payment.pk))
        monkeypatch.setattr("payments.operations.replay.time.sleep", lambda _seconds: stray.close())
        assert work_off(resolution.pk).replayed == 1


def test_a_letter_of_a_payment_in_work_only_has_it_taken_up(accept):
    payment = accept()
    letter_of(payment)
    OutboxMessage.objects.all().delete()
    assert preview(Selection()).sums == {}
    assert send_back(payment).replayed == 1
    assert (payment.status, payment.version) == ("pending", 1)
    assert OutboxMessage.objects.get().payload == {"ids": [str(payment.pk)]}


def test_a_replay_of_what_waits_with_people_is_not_in_vain(accept):
    """After its last look-up nothing is ever due, and the message alone would do nothing."""
    payment = accept()
    settle_one(claim_one(payment.pk), OutcomeUnknown(detail="reset"))
    Payment.objects.update(needs_review=True, next_attempt_at=None, revive_at=None)
    letter_of(payment)
    assert send_back(payment).replayed == 1
    assert claim_one(payment.pk).kind == AttemptKind.LOOKUP


@pytest.mark.parametrize("subject", ["payment:0199f000-0000-7000-8000-000000000001", "payment:nonsense", "payment:"])
def test_a_letter_of_no_payment_of_ours_stays_open(db, subject):
    letter = DeadLetter.objects.create(
        message_id=uuid4(), queue="payments", actor="process_payments", cause="x", attempts=1, subject=subject,
        first_failed_at=timezone.now(), last_failed_at=timezone.now(), payload={"ids": [str(uuid4())]},
    )  # fmt: skip
    assert preview(Selection()).count(Verdict.BLOCKED) == 1
    resolution = resolve(Selection(), REPLAY, reason="r", by="staff")
    assert work_off(resolution.pk).blocked == 1
    letter.refresh_from_db()
    assert (letter.state, letter.note) == ("open", "there is no such payment")


# --- settled by another way


def test_a_letter_whose_payment_has_moved_on_is_superseded(accept, sandbox, dead):
    payment, still_dead = accept("key-2"), dead()
    letter_of(payment)
    assert replay.supersede_settled() == 0
    process_payments(payment_ids=[payment.pk])
    assert replay.supersede_settled() == 1
    assert {letter.subject: letter.state for letter in DeadLetter.objects.all()} == {
        f"payment:{payment.pk}": "superseded",
        f"payment:{still_dead.pk}": "open",
    }


def test_closing_what_is_settled_waits_for_nobody(accept, sandbox):
    """The relay would stand still, or the two would block each other."""
    first, second = accept("key-1"), accept("key-2")
    for payment in (first, second):
        held = letter_of(payment)
        process_payments(payment_ids=[payment.pk])
    with elsewhere_locked("messaging_deadletter", held.pk):
        assert replay.supersede_settled() == 1
    assert replay.supersede_settled() == 1


def test_closing_what_is_settled_does_not_read_through_all_payments(accept):
    letter_of(accept())
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL enable_seqscan = off")  # in a table of one row it would be right
        cursor.execute(f"EXPLAIN {replay.SUPERSEDE}", [[]])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "using payments_payment_pkey" in plan
    assert "Index Cond: (id = CASE" in plan


def letter_of(payment):
    return DeadLetter.objects.create(
        message_id=uuid4(),
        queue="payments",
        actor="process_payments",
        payload={"ids": [str(payment.pk)]},
        cause="ValueError",
        attempts=8,
        subject=f"payment:{payment.pk}",
        first_failed_at=timezone.now(),
        last_failed_at=timezone.now(),
    )


@contextmanager
def elsewhere_locked(table, id_):
    """A row, locked by another session."""
    with psycopg.connect(**connection_parameters()) as other:
        other.execute(f"SELECT FROM {table} WHERE id = %s FOR NO KEY UPDATE", [id_])
        yield
        other.rollback()


def connection_parameters():
    given = connection.get_connection_params()
    return {name: given[name] for name in ("host", "port", "user", "password", "dbname") if given.get(name)}
