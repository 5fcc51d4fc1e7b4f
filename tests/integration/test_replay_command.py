"""`manage.py replay_dead_letters`, as a tired person types it: it shows, asks why, acts once, can be interrupted."""

from datetime import UTC, datetime
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from messaging import resolutions
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.selections import Selection
from payments.gateways.base import Unavailable
from payments.models import Payment
from tests.claiming import claim_one, settle_one
from tests.decisions import resolve

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments):
    out = StringIO()
    call_command("replay_dead_letters", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def dead(accept):
    """Payments that died, each worth 10.00 EUR."""
    for number in range(3):
        payment = accept(f"key-{number}", order_id=f"o-{number}")
        for _ in range(4):
            Payment.objects.filter(pk=payment.pk).update(next_attempt_at=payment.created_at)
            settle_one(claim_one(payment.pk), Unavailable(detail="503"))
    OutboxMessage.objects.all().delete()


def letter(**fields):
    values = {"queue": "payments", "actor": "handle_gateway_events", "cause": "ValueError", "attempts": 1}
    values["payload"] = {"ids": [1]}
    now = timezone.now()
    times = {"first_failed_at": now, "last_failed_at": now}
    return DeadLetter.objects.create(message_id=uuid4(), **{**values, **times, **fields})


def test_a_dry_run_shows_how_many_what_sum_and_which_causes_and_does_nothing(dead, accept):
    accept("key-new", order_id="o-2")
    shown = run("--dry-run")
    assert "3  retries_exhausted  (process_payments)" in shown
    assert "To replay: 2, worth 20.00 EUR." in shown
    assert "Settled already, to be skipped: 0. Blocked, to stay open: 1." in shown
    assert "1  its order has another payment under way" in shown
    assert not Resolution.objects.exists()
    assert DeadLetter.objects.filter(state="open").count() == 3


def test_a_replay_acts_and_a_second_one_finds_nothing_to_do(dead):
    assert "is done: 3 of 3 taken in hand; replayed 3," in run("--reason", "the gateway is back", "--by", "ada")
    assert run("--reason", "again") == "No open dead letter matches.\n"
    resolution = Resolution.objects.get()
    assert (resolution.reason, resolution.decided_by) == ("the gateway is back", "ada")
    assert OutboxMessage.objects.filter(actor="process_payments").count() == 3


@pytest.mark.parametrize("beside", [["--dry-run"], ["7"], ["--discard"], ["--rate", "5"], ["--since", "2h"]])
def test_a_resume_ignores_no_other_option(dead, beside):
    resolution = resolve(Selection(), Resolution.Action.REPLAY, reason="why", by="ada")
    resolutions.stop(resolution.pk, by="ada")
    with pytest.raises(CommandError, match=r"leave .* out. Nothing was done"):
        run("--resume", str(resolution.pk), *beside)
    assert DeadLetter.objects.filter(state="open").count() == 3


def test_letters_in_the_hands_of_a_resolution_are_not_said_to_be_gone(dead):
    resolve(Selection(), Resolution.Action.REPLAY, reason="why", by="ada")
    shown = run("--dry-run")
    assert "A running resolution has 3 that match in hand" in shown
    assert "No other open dead letter matches." in shown


def test_what_dies_after_the_look_is_not_replayed_unseen(dead):
    class Slow(StringIO):
        """A terminal on which a letter dies while the preview is read."""

        def write(self, text):
            if "To replay" in text:
                letter()
            return super().write(text)

    call_command("replay_dead_letters", "--reason", "why", stdout=Slow())
    assert DeadLetter.objects.get(state="open").actor == "handle_gateway_events"
    assert Resolution.objects.get().total == 3


@pytest.mark.parametrize("rate", ["0", "1001", "99999999999", "1e3"])
def test_a_rate_beyond_reason_is_refused_before_anything_is_done(dead, rate):
    with pytest.raises(CommandError, match="--rate"):
        run("--reason", "why", "--rate", rate)
    assert not Resolution.objects.exists()


@pytest.mark.parametrize("reason", [[], ["--reason", "  "], ["--reason", "..."], ["--reason", "x" * 501]])
def test_nothing_is_done_without_a_reason(dead, reason):
    with pytest.raises(CommandError, match="say why"):
        run(*reason)
    assert not Resolution.objects.exists()


def test_only_what_was_chosen_is_replayed(db):
    letter(queue="webhooks", actor="call_webhooks", payload={"ids": [str(uuid4())]})
    letter(actor="continue_resolutions")
    letter(cause="TypeError")
    old = letter(last_failed_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert "To replay: 3." in run("--since", "2h", "--dry-run")
    assert "To replay: 4." in run("--since", "2026-01-02T00:00:00Z", "--dry-run")
    for arguments in (
        ["--queue", "webhooks"],
        ["--actor", "continue_resolutions"],
        ["--error", "TypeError"],
        [str(old.pk)],
    ):
        assert "replayed 1," in run(*arguments, "--reason", "r")


@pytest.mark.parametrize("since", ["", "yesterday", "2x", "999999999999d", "2026-13-01T00:00:00Z", "²h"])
def test_a_moment_that_is_none_is_told_with_its_mend(db, since):
    with pytest.raises(CommandError, match="30m, 2h, 7d"):
        run("--since", since, "--dry-run")


@pytest.mark.parametrize("rate", ["0", "-1", "x"])
def test_a_rate_that_is_none_is_refused(db, rate):
    with pytest.raises(CommandError, match="--rate"):
        run("--rate", rate, "--dry-run")


def test_letters_are_discarded_without_sending_anything(dead):
    shown = run("--discard", "--reason", "test orders")
    assert "To discard: 3." in shown
    assert "discarded 3," in shown
    assert not OutboxMessage.objects.exists()


def test_an_interruption_by_the_database_is_told_with_what_follows(db, monkeypatch):
    letter()

    def interrupted(_resolution_id):
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr(resolutions, "work_off", interrupted)
    with pytest.raises(CommandError, match=r"lock timeout\. Nothing is lost: a worker goes on with resolution \d+"):
        run("--reason", "r")


def test_ctrl_c_stops_and_resume_goes_on(db, monkeypatch):
    for _ in range(120):
        letter()
    whole = resolutions.work_off

    def interrupted(resolution_id):
        done = whole(resolution_id)
        if done.taken >= 100:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(resolutions, "work_off", interrupted)
    shown = run("--reason", "r")
    monkeypatch.undo()
    number = Resolution.objects.get().pk
    assert f"--resume {number}" in shown
    assert "is stopped: 100 of 120 taken in hand" in shown
    assert DeadLetter.objects.filter(state="open").count() == 20
    assert "is done: 120 of 120 taken in hand; replayed 120," in run("--resume", str(number))
    with pytest.raises(CommandError, match="nothing was done"):
        run("--resume", str(number))
