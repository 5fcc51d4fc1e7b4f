"""Dead letters of deliveries: replayed like all others, and closed when the delivery arrives by another way."""

from datetime import timedelta

import pytest
from django.utils import timezone

from messaging import judgements, resolutions
from messaging.judgements import Verdict
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection
from notifications import endpoints
from notifications.outcomes import Failed
from notifications.redelivery import redeliver, redeliver_since
from notifications.replay import supersede_settled
from tests.decisions import resolve
from tests.deliveries import OK, again, attempt, delivery_to, endpoint_of
from tests.dying import letter as other_letter
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
NO = Failed(detail="no", final=True)


@pytest.fixture
def dead(merchant):
    """A webhook that has failed for good, and its letter."""
    delivery = delivery_to(endpoint_of(merchant), now=NOW)
    attempt(delivery, NO, now=NOW)
    return delivery


def replay():
    resolution = resolve(Selection(), Resolution.Action.REPLAY, reason="mended", by="staff")
    *_, last = resolutions.work_off_all(resolution.pk)
    return last


def verdict(letter=None):
    letter = letter or DeadLetter.objects.get()
    return judgements.judge([letter])[letter.pk].verdict


def test_a_replayed_delivery_is_tried_anew_and_replaying_twice_acts_once(dead):
    assert verdict() == Verdict.GOES
    assert replay().replayed == 1
    assert (again(dead).state, dead.tries) == ("pending", 0)
    message = work().get(options__has_key="replay_of")
    assert (message.queue, message.actor, message.payload) == ("webhooks", "call_webhooks", {"ids": [str(dead.pk)]})
    assert replay().total == 0
    assert attempt(dead, OK, now=timezone.now() + timedelta(seconds=1))
    assert again(dead).state == "delivered"


def test_a_letter_to_a_deleted_endpoint_does_not_wait_for_its_being_enabled(dead):
    endpoints.delete(endpoint=dead.endpoint, now=NOW)
    judgement = judgements.judge(DeadLetter.objects.all()).popitem()[1]
    assert (judgement.verdict, judgement.note) == (
        Verdict.BLOCKED,
        "its webhook endpoint is deleted; discard the letter",
    )
    assert replay().blocked == 1


def test_a_second_death_is_a_letter_of_its_own(dead):
    replay()
    attempt(dead, NO, now=timezone.now() + timedelta(seconds=1))
    first, second = DeadLetter.objects.order_by("id")
    assert (first.state, second.state, second.previous) == ("replayed", "open", first)


def test_nothing_is_sent_to_a_disabled_endpoint_by_a_replay(dead):
    endpoints.change(endpoint=dead.endpoint, enabled=False, now=NOW)
    assert verdict() == Verdict.BLOCKED
    assert replay().blocked == 1
    assert again(dead).state == "failed"


def test_nobody_is_asked_to_enable_a_deleted_endpoint(dead):
    endpoints.delete(endpoint=dead.endpoint, now=NOW)
    judgement = judgements.judge(DeadLetter.objects.all())[DeadLetter.objects.get().pk]
    assert (judgement.verdict, judgement.note) == (
        Verdict.BLOCKED,
        "its webhook endpoint is deleted; discard the letter",
    )


def test_what_has_arrived_since_is_never_sent_again(dead):
    redeliver(delivery=dead, now=NOW)
    attempt(dead, OK, now=NOW)
    assert verdict() == Verdict.SETTLED
    assert supersede_settled() == 1
    row = DeadLetter.objects.get()
    assert (row.state, row.note) == ("superseded", "it has been delivered")


def test_letters_of_what_has_not_arrived_stay_open(dead):
    other_letter(subject="delivery:nonsense")
    other_letter(subject="payment:0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e")
    redeliver(delivery=dead, now=NOW)
    assert supersede_settled() == 0
    assert DeadLetter.objects.filter(state="open").count() == 3


@pytest.mark.parametrize("subject", ["delivery:nonsense", "delivery:0190a6f0-7b1c-7d57-9e1b-3c8f3a1f5d2e"])
def test_a_letter_about_no_delivery_is_blocked(merchant, subject):
    row = other_letter(subject=subject)
    assert verdict(row) == Verdict.BLOCKED


def test_a_redelivery_since_a_time_takes_what_was_not_delivered(merchant):
    endpoint = endpoint_of(merchant)
    rows = [delivery_to(endpoint, now=NOW - timedelta(seconds=age)) for age in (4, 3, 2, 1)]
    for row, result in zip(rows, (OK, NO, OK, NO), strict=True):
        attempt(row, result, now=NOW)
    work().delete()
    assert redeliver_since(endpoint=endpoint, since=NOW - timedelta(1), everything=False, now=NOW) == 2
    assert [again(row).state for row in rows] == ["delivered", "pending", "delivered", "pending"]
    assert work().count() == 1, "one message has the endpoint looked after"
    assert redeliver_since(endpoint=endpoint, since=NOW - timedelta(1), everything=True, now=NOW) == 2
    assert redeliver_since(endpoint=endpoint, since=NOW + timedelta(1), everything=True, now=NOW) == 0
