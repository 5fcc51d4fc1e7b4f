"""Decisions about dead letters: each is resolved once, whoever asks how often, and an interruption loses nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, ProgrammingError, connection, connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from messaging import actors, dead_letters
from messaging.dead_letters import MOST_KEPT
from messaging.judgements import Judgement, Verdict
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.previews import preview
from messaging.relay import to_envelope
from messaging.resolutions import REVIVE_AFTER, rescue, resume, stop, work_off
from messaging.selections import Selection, causes
from tests.decisions import resolve

pytestmark = pytest.mark.django_db(transaction=True)

REPLAY, DISCARD = Resolution.Action.REPLAY, Resolution.Action.DISCARD
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def letters(db):
    """So many open letters, oldest first."""

    def make(count=1, **fields):
        values = {"queue": "payments", "actor": "handle_gateway_events", "cause": "ValueError", "attempts": 8}
        made = [
            DeadLetter(
                message_id=uuid4(), first_failed_at=NOON, last_failed_at=NOON,
                **{**values, "payload": {"ids": [number + 1]}, **fields},
            )
            for number in range(count)
        ]  # fmt: skip
        return DeadLetter.objects.bulk_create(made)

    return make


def decide(selection=None, action=REPLAY, **options):
    return resolve(selection or Selection(), action, **{"reason": "r", "by": "ada", **options})


def work_off_all(resolution):
    while (done := work_off(resolution.pk)) and done.state == "running":
        pass
    resolution.refresh_from_db()
    return resolution


def states():
    return list(DeadLetter.objects.order_by("id").values_list("state", flat=True))


# --- what is chosen


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), 3),
        (Selection(queue="webhooks"), 1),
        (Selection(actor="process_payments"), 1),
        (Selection(cause="TypeError"), 1),
        (Selection(cause="TypeError", queue="webhooks"), 0),
        (Selection(since=NOON), 3),
        (Selection(since=NOON + timedelta(seconds=1)), 0),
        (Selection(before=NOON), 0),
        (Selection(before=NOON + timedelta(seconds=1)), 3),
        (Selection(ids=()), 0),
    ],
)
def test_nothing_is_resolved_that_was_not_chosen(letters, selection, chosen):
    letters(queue="webhooks", actor="call_webhooks", payload={"ids": [str(uuid4())]})
    letters(actor="process_payments", payload={"ids": [str(uuid4())]}, cause="TypeError")
    letters()
    assert preview(selection).total == chosen
    assert work_off_all(decide(selection)).replayed == chosen
    assert states().count("open") == 3 - chosen
    assert Selection.of(decide(selection).selection) == selection


def test_closed_letters_are_never_chosen_again(letters):
    first, second = letters(2)
    work_off_all(decide(Selection(ids=(first.pk,)), DISCARD))
    assert work_off_all(decide(Selection(ids=(first.pk, second.pk)))).total == 1
    assert states() == ["discarded", "replayed"]


def test_a_letter_that_dies_again_meanwhile_is_not_replayed_for_ever(letters):
    letters(2)
    resolution = decide()
    letters(1)
    assert work_off_all(resolution).total == resolution.replayed == 2
    assert states() == ["replayed", "replayed", "open"]


# --- once


def test_a_letter_replayed_twice_goes_out_once(letters):
    letters(5)
    work_off_all(decide())
    again = work_off_all(decide())
    assert (again.total, again.state) == (0, "done")
    assert OutboxMessage.objects.count() == 5


def test_two_people_who_replay_the_same_at_once_act_once(letters):
    letters(40)

    def replay(by):
        try:
            return work_off_all(decide(by=by)).replayed
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(replay, "abcd")) == 40
    assert OutboxMessage.objects.count() == 40


def test_two_workers_at_one_resolution_take_no_letter_twice(letters):
    letters(250)
    resolution = decide()

    def work(_number):
        try:
            for _ in range(4):
                work_off(resolution.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    resolution.refresh_from_db()
    work_off_all(resolution)
    assert (resolution.replayed, resolution.state, OutboxMessage.objects.count()) == (250, "done", 250)


def test_what_another_running_resolution_has_in_hand_is_left_to_it(letters):
    letters(3)
    first = decide()
    assert decide(action=DISCARD).total == 0
    assert work_off_all(first).replayed == 3


def test_what_a_stopped_resolution_has_left_may_be_decided_anew(letters):
    letters(3)
    first = decide()
    stop(first.pk, by="ada")
    assert work_off_all(decide(action=DISCARD)).discarded == 3
    resume(first.pk, by="ada", in_background=False)
    assert work_off_all(first).replayed == 0
    assert states() == ["discarded"] * 3


# --- what goes out


def test_a_replayed_message_is_the_same_under_a_new_id(letters):
    (letter,) = letters(payload={"ids": [7]}, request_id="request-1")
    work_off_all(decide())
    letter.refresh_from_db()
    message = OutboxMessage.objects.get()
    assert (message.queue, message.actor, message.payload) == ("payments", "handle_gateway_events", {"ids": [7]})
    assert (message.request_id, message.options) == ("request-1", {"replay_of": letter.pk})
    assert message.message_id == letter.replayed_as != letter.message_id


def test_a_body_from_outside_goes_out_byte_for_byte(letters):
    body = b'{"amount": 1.10}\xff\x00'
    (letter,) = letters(actor="", queue="payment_initiation", payload={}, body=body, body_size=len(body))
    work_off_all(decide())
    envelope = to_envelope([OutboxMessage.objects.get()])
    assert (envelope.body, envelope.routing_key, envelope.exchange) == (body, "payment_initiation", "")
    assert envelope.headers == {"request_id": "", "replay_of": letter.pk}


def test_half_a_body_is_never_sent(letters):
    queue = "payment_initiation"
    letters(queue=queue, actor="", payload={}, body=b"x" * MOST_KEPT, body_size=MOST_KEPT + 1)
    assert preview(Selection()).count(Verdict.BLOCKED) == 1
    assert work_off_all(decide()).blocked == 1
    assert states() == ["open"]
    assert not OutboxMessage.objects.exists()
    assert work_off_all(decide(action=DISCARD)).discarded == 1


REFUSED = [
    ({"actor": "", "payload": {}, "body": b"{}", "body_size": 2, "cause": "wrong_queue"}, "(wrong_queue); discard"),
    ({"actor": "of_tomorrow"}, "No actor `of_tomorrow` receives messages from queue `payments`."),
    ({"payload": {"ids": ["x"]}}, "Each of `ids` must be of type integer; one of them is not."),
    ({"payload": {"ids": list(range(1, 502))}}, "`ids` must be a list of 1 to 500 ids; this is a list of 501."),
    ({"payload": {"ids": [1], "*": [7]}}, "An actor has one argument, `ids`, by name"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_the_workers_would_refuse_again_is_blocked_and_says_so(letters, fields, reason):
    letters(**fields)
    shown = preview(Selection())
    assert (shown.count(Verdict.BLOCKED), shown.total) == (1, 1)
    (note,) = shown.notes
    assert reason in note
    assert work_off_all(decide()).blocked == 1
    assert not OutboxMessage.objects.exists()
    assert DeadLetter.objects.get().note == note
    assert work_off_all(decide(action=DISCARD)).discarded == 1


def test_a_discarded_letter_sends_nothing(letters):
    letters(3)
    done = work_off_all(decide(action=DISCARD))
    assert (done.discarded, done.replayed, states()) == (3, 0, ["discarded"] * 3)
    assert not OutboxMessage.objects.exists()


# --- the record


def test_who_decided_what_and_why_is_kept_with_the_result(letters):
    (letter,) = letters()
    resolution = work_off_all(decide(Selection(cause="ValueError"), reason="the bug is mended", by="ada"))
    letter.refresh_from_db()
    assert letter.resolution == resolution
    assert (resolution.decided_by, resolution.reason) == ("ada", "the bug is mended")
    assert resolution.selection == {"cause": "ValueError"}
    assert resolution.finished_at == letter.resolved_at


@pytest.mark.parametrize("reason", [""])
def test_no_decision_goes_without_a_reason(letters, reason):
    with pytest.raises(IntegrityError):
        decide(reason=reason)


# --- interruptions


def test_an_interrupted_resolution_goes_on_where_it_was(letters):
    letters(250)
    resolution = decide()
    work_off(resolution.pk)
    resolution.refresh_from_db()
    assert (resolution.replayed, resolution.state) == (100, "running")
    Resolution.objects.update(revive_at=Now() - timedelta(seconds=1))
    assert rescue() == 1
    assert rescue() == 0  # for the next minute it is in somebody's hands
    message = OutboxMessage.objects.filter(actor="continue_resolutions")
    assert message.get().payload == {"ids": [resolution.pk]}
    work_off_all(resolution)
    assert (resolution.replayed, resolution.state, resolution.revive_at) == (250, "done", None)


def test_a_worker_sees_to_it_that_the_next_chunk_follows(letters):
    letters(250)
    resolution = decide()
    follow_ups = OutboxMessage.objects.filter(actor="continue_resolutions")
    for done in (100, 200):
        follow_ups.delete()
        actors.continue_resolutions.fn([resolution.pk])
        resolution.refresh_from_db()
        assert (resolution.replayed, follow_ups.count()) == (done, 1)
    follow_ups.delete()
    actors.continue_resolutions.fn([resolution.pk])
    resolution.refresh_from_db()
    assert (resolution.state, follow_ups.count()) == ("done", 0)


def test_a_rate_is_never_exceeded(letters):
    letters(25)
    resolution = decide(rate=10)
    work_off(resolution.pk, in_background=True)
    resolution.refresh_from_db()
    assert resolution.replayed == 10
    follow_up = OutboxMessage.objects.filter(actor="continue_resolutions").annotate(age=F("available_at") - Now()).get()
    assert timedelta(seconds=0.5) < follow_up.age <= timedelta(seconds=1)


def test_a_message_that_comes_twice_does_not_double_the_rate(letters):
    letters(25)
    resolution = decide(rate=10)
    for _copy in range(3):
        actors.continue_resolutions.fn([resolution.pk])
    resolution.refresh_from_db()
    assert resolution.replayed == 10
    assert OutboxMessage.objects.filter(actor="continue_resolutions").count() == 1
    Resolution.objects.update(revive_at=Now() + timedelta(seconds=REVIVE_AFTER))  # a second later
    actors.continue_resolutions.fn([resolution.pk])
    resolution.refresh_from_db()
    assert resolution.replayed == 20


def test_a_worker_whose_clock_is_wrong_neither_delays_messages_nor_calls_the_rescue(letters, monkeypatch):
    letters(150)
    resolution = decide()
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOON)
    actors.continue_resolutions.fn([resolution.pk])
    assert rescue() == 0
    monkeypatch.setattr("django.utils.timezone.now", lambda: datetime(2100, 1, 1, tzinfo=UTC))
    actors.continue_resolutions.fn([resolution.pk])
    assert not OutboxMessage.objects.filter(available_at__gt=Now() + timedelta(minutes=1)).exists()


def test_a_stopped_resolution_takes_no_further_letter_until_it_is_resumed(letters):
    letters(150)
    resolution = decide()
    work_off(resolution.pk)
    assert stop(resolution.pk, by="ada")
    assert not stop(resolution.pk, by="ada")
    assert work_off(resolution.pk) is None
    assert states().count("open") == 50
    assert resume(resolution.pk, by="ada")
    assert not resume(resolution.pk, by="ada")
    assert work_off_all(resolution).replayed == 150


def test_one_letter_that_stays_blocked_does_not_hold_up_the_others(letters, settings):
    settings.DEAD_LETTER_OWNERS = {"thing": f"{__name__}.STUBBORN"}
    letters(subject="thing:1")
    letters(120)
    done = work_off_all(decide())
    assert (done.blocked, done.replayed, done.taken, done.state) == (1, 120, 121, "done")


def test_a_defect_in_one_letter_blocks_that_one_and_undoes_what_it_had_begun(letters, settings):
    settings.DEAD_LETTER_OWNERS = {"thing": f"{__name__}.BROKEN"}
    letters(subject="thing:1")
    letters(3)
    done = work_off_all(decide())
    assert (done.blocked, done.replayed, done.state) == (1, 3, "done")
    letter = DeadLetter.objects.get(state="open")
    assert "KeyError" in letter.note
    assert OutboxMessage.objects.count() == 3


class Broken:
    def send_back(self, id_, *, now):
        OutboxMessage.objects.create(queue="half", actor="done")
        raise KeyError("a gateway that was taken out of the settings")


BROKEN = Broken()


class Stubborn:
    def judge(self, ids):
        return dict.fromkeys(ids, Judgement(Verdict.BLOCKED, "it will not"))

    def send_back(self, id_, *, now):
        return Judgement(Verdict.BLOCKED, "it will not")


STUBBORN = Stubborn()


def test_a_death_is_not_discarded_unseen_with_an_older_one(letters):
    """It came after the decision, so nobody has decided on it."""
    letters(subject="thing:1", payload={"ids": [1]})
    decided = decide(action=DISCARD)
    dead_letters.record(
        queue="payments", actor="handle_gateway_events", payload={"ids": [1]}, cause="ValueError", detail="",
        attempts=1, subject="thing:1", first_failed_at=NOON, now=NOON,
    )  # fmt: skip
    assert work_off_all(decided).discarded == 1
    assert states() == ["discarded", "open"]


# --- the preview


def test_a_preview_changes_nothing_and_counts_each_payment_once(letters, settings):
    settings.DEAD_LETTER_OWNERS = {"payment": f"{__name__}.RICH", "thing": f"{__name__}.STUBBORN"}
    letters(2, subject="payment:1")
    letters(1, subject="payment:2")
    letters(3, subject="thing:1", cause="TypeError")
    letters(1)
    shown = preview(Selection())
    assert shown.sums == {"EUR": 2000}
    assert shown.notes == {"it will not": 3}
    counted = [(tally.cause, tally.goes, tally.blocked, tally.total) for tally in shown.tallies]
    assert counted == [("ValueError", 4, 0, 4), ("TypeError", 0, 3, 3)]
    assert set(states()) == {"open"}
    assert not OutboxMessage.objects.exists()
    assert not Resolution.objects.exists()


class Rich:
    def judge(self, ids):
        return dict.fromkeys(ids, Judgement(Verdict.GOES, "", 1000, "EUR"))


RICH = Rich()


def test_a_preview_of_thousands_asks_a_few_queries(letters, django_assert_max_num_queries):
    letters(2500, subject=f"payment:{uuid4()}")
    with django_assert_max_num_queries(8):
        assert preview(Selection()).total == 2500


def test_the_causes_are_told_with_the_most_frequent_first(letters):
    letters(2)
    letters(3, cause="TypeError")
    assert [(row["cause"], row["count"]) for row in causes()] == [("TypeError", 3), ("ValueError", 2)]


# --- what the database itself refuses


@pytest.mark.parametrize("left", ["replayed", "discarded", "superseded"])
def test_a_resolved_letter_is_never_opened_again_not_even_by_raw_sql(letters, left):
    letters(state=left, resolved_at=NOON)
    with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE messaging_deadletter SET state = 'open', resolved_at = NULL")


def test_an_open_letter_cannot_be_deleted(letters):
    letters()
    with pytest.raises(ProgrammingError), transaction.atomic():
        DeadLetter.objects.all().delete()


# --- pruning


def test_open_letters_are_kept_for_ever_and_resolved_ones_for_their_time(letters):
    letters()
    letters(state="discarded", resolved_at=NOON)
    letters(3, state="replayed", resolved_at=NOON - timedelta(days=1))
    assert dead_letters.prune(before=NOON, batch=2) == 2
    assert dead_letters.prune(before=NOON, batch=2) == 1
    assert dead_letters.prune(before=NOON, batch=2) == 0
    assert sorted(states()) == ["discarded", "open"]
