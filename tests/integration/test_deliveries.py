"""One delivery: its attempts on schedule, its ends, and whose answers count."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils import timezone
from structlog.testing import capture_logs

from messaging.models import DeadLetter
from notifications import attempts, messages, rescue, schedule
from notifications.models import Delivery, DeliveryAttempt
from notifications.outcomes import Delivered, Failed
from notifications.redelivery import redeliver, redeliver_since
from tests.deliveries import DOWN, OK, again, attempt, delivery_to, endpoint_of
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
NO_TIME = timedelta(0)


@pytest.fixture
def endpoint(merchant):
    return endpoint_of(merchant)


@pytest.fixture
def mail(merchant):
    return delivery_to(merchant=merchant, channel="email", recipient="a@example.org", now=NOW)


def waits(delivery, now):
    return (again(delivery).next_attempt_at - now).total_seconds()


# --- on schedule


def test_a_receiver_that_fails_twice_gets_the_third_attempt_on_schedule(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    assert attempt(delivery, DOWN, now=NOW)
    first_wait = waits(delivery, NOW)
    assert 5 <= first_wait <= 5.5
    assert not attempt(delivery, OK, now=NOW + timedelta(seconds=4.9)), "too early"
    second = NOW + timedelta(seconds=first_wait)
    assert attempt(delivery, DOWN, now=second)
    second_wait = waits(delivery, second)
    assert 300 <= second_wait <= 330
    third = second + timedelta(seconds=second_wait)
    assert not attempt(delivery, OK, now=third - timedelta(seconds=1))
    assert attempt(delivery, OK, now=third)
    assert again(delivery).state == "delivered"
    outcomes = list(delivery.attempts.order_by("number").values_list("number", "outcome"))
    assert outcomes == [(1, "failed"), (2, "failed"), (3, "delivered")]


def test_webhooks_are_tried_ten_times_over_three_days_and_then_kept_for_people(endpoint):
    delivery, now = delivery_to(endpoint, now=NOW), NOW
    expected = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    for wait in expected:
        assert attempt(delivery, DOWN, now=now)
        assert wait <= waits(delivery, now) <= wait * 1.1
        now = again(delivery).next_attempt_at
    assert attempt(delivery, DOWN, now=now)
    assert again(delivery).state == "failed"
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.subject, letter.attempts) == ("delivery_exhausted", f"delivery:{delivery.pk}", 10)
    assert (letter.queue, letter.actor, letter.payload) == ("webhooks", "call_webhooks", {"ids": [str(delivery.pk)]})


def test_mail_is_tried_for_a_day(mail):
    now = NOW
    while again(mail).state == "pending":
        assert attempt(mail, DOWN, now=now)
        now = again(mail).next_attempt_at or now
    assert timedelta(hours=23) < now - NOW < timedelta(hours=27)
    assert (DeadLetter.objects.get().queue, again(mail).tries) == ("notifications", len(schedule.MESSAGE) + 1)


def test_a_near_retry_is_on_time_and_a_far_one_is_left_to_the_rescue(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    attempt(delivery, DOWN, now=NOW)
    message = work().get()
    assert message.available_at == again(delivery).next_attempt_at
    assert delivery.revive_at > delivery.next_attempt_at
    message.delete()
    second = delivery.next_attempt_at
    attempt(delivery, DOWN, now=second)
    assert not work().exists()
    assert again(delivery).revive_at == delivery.next_attempt_at
    assert rescue.run_once(now=delivery.revive_at - timedelta(seconds=1)) == 0
    assert rescue.run_once(now=delivery.revive_at) == 1
    assert work().get().payload == {"ids": [str(delivery.pk)]}


def test_the_receiver_is_not_asked_before_its_retry_after(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    attempt(delivery, Failed(detail="HTTP 429", status_code=429, retry_after=3600), now=NOW)
    assert waits(delivery, NOW) == 3600


def test_a_short_retry_after_does_not_bring_an_attempt_forward(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    attempt(delivery, Failed(detail="HTTP 503", retry_after=0.0), now=NOW)
    assert waits(delivery, NOW) >= 5


def test_what_no_repetition_mends_is_not_repeated(mail):
    attempt(mail, Failed(detail="no such mailbox", final=True), now=NOW)
    assert (again(mail).state, mail.tries, mail.note) == ("failed", 1, "no such mailbox")
    assert [letter.cause for letter in DeadLetter.objects.all()] == ["delivery_refused"]


# --- whose answer counts


def test_two_workers_never_send_the_same_delivery(mail):
    def take(_number):
        try:
            return attempts.claim(mail.pk, now=NOW)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert len([claim for claim in pool.map(take, range(8)) if claim]) == 1


def test_a_delivery_whose_worker_died_is_sent_again_when_its_lease_is_over(mail):
    assert attempts.claim(mail.pk, now=NOW)
    assert attempts.claim(mail.pk, now=NOW + attempts.LEASE - timedelta(seconds=1)) is None
    assert rescue.run_once(now=NOW + attempts.LEASE) == 1
    assert attempts.claim(mail.pk, now=NOW + attempts.LEASE)


def test_what_was_delivered_while_it_was_claimed_is_not_sent_once_more(endpoint):
    """The success of a worker that was thought dead comes between the look at the delivery and its lease."""
    seen = delivery_to(endpoint, now=NOW)
    Delivery.objects.filter(pk=seen.pk).update(**attempts.ended(Delivery.State.DELIVERED, now=NOW))
    assert attempts.take_in_hand(seen, now=NOW) is None


def test_a_worker_whose_clock_is_slow_does_not_leave_a_message_to_the_rescue(mail):
    Delivery.objects.filter(pk=mail.pk).update(next_attempt_at=timezone.now() + timedelta(seconds=0.4))
    messages.deliver(mail.pk)
    assert again(mail).attempts.exists()


def test_a_late_failure_changes_nothing(mail):
    late = attempts.claim(mail.pk, now=NOW)
    after = NOW + attempts.LEASE
    assert attempts.claim(mail.pk, now=after)
    before = Delivery.objects.values().get()
    attempts.settle(late, DOWN, latency=NO_TIME, now=after)
    assert Delivery.objects.values().get() == before
    assert DeliveryAttempt.objects.count() == 1, "it is recorded all the same"


def test_a_success_counts_however_late_it_comes(mail):
    late = attempts.claim(mail.pk, now=NOW)
    after = NOW + attempts.LEASE
    other = attempts.claim(mail.pk, now=after)
    attempts.settle(late, OK, latency=NO_TIME, now=after)
    attempts.settle(other, DOWN, latency=NO_TIME, now=after)
    assert again(mail).state == "delivered"
    assert not work().exists()


def test_a_delivery_that_kills_its_worker_each_time_ends(mail):
    now = NOW
    for _ in range(len(schedule.MESSAGE) + 1):
        assert attempts.claim(mail.pk, now=now)
        now += attempts.LEASE
    assert attempts.claim(mail.pk, now=now) is None
    assert (again(mail).state, DeadLetter.objects.get().cause) == ("failed", "delivery_exhausted")


def test_what_was_delivered_is_not_sent_again_by_a_message_that_comes_twice(mail):
    attempt(mail, OK, now=NOW)
    assert not attempt(mail, OK, now=NOW + timedelta(days=1))


def test_an_answer_is_kept_with_what_people_need(mail):
    claim = attempts.claim(mail.pk, now=NOW)
    result = Delivered(reference="SM123", status_code=201, excerpt="queued")
    attempts.settle(claim, result, latency=timedelta(seconds=1.5), now=NOW)
    row = mail.attempts.get()
    assert (row.status_code, row.excerpt, row.latency_ms, again(mail).reference) == (201, "queued", 1500, "SM123")


# --- what the database holds


def test_the_same_event_never_has_two_deliveries_to_one_recipient(mail):
    with pytest.raises(IntegrityError), transaction.atomic():
        delivery_to(merchant=mail.merchant, channel="email", recipient=mail.recipient, event_id=mail.event_id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"revive_at": None},
        {"state": "delivered"},
        {"state": "nonsense"},
        {"channel": "webhook"},
        {"finished_at": NOW},
    ],
)
def test_a_pending_delivery_can_never_be_forgotten(mail, wrong):
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.filter(pk=mail.pk).update(**wrong)


# --- the rescue


def test_what_a_wiped_broker_forgot_is_staged_again_and_less_and_less_often(mail):
    work().delete()
    now, gaps = NOW, []
    for _ in range(7):
        before, now = now, again(mail).revive_at
        gaps.append((now - before).total_seconds())
        assert rescue.run_once(now=now) == 1
    assert gaps[0] == 60
    assert gaps == sorted(gaps)
    assert gaps[-1] == 600
    assert work().count() == 7


def test_an_endpoints_backlog_takes_one_message_and_not_thousands(endpoint):
    for _ in range(50):
        delivery_to(endpoint, now=NOW)
    assert rescue.run_once(now=NOW + timedelta(hours=1)) == 50
    assert work().count() == 1


# --- again, by people


def test_thousands_that_wait_for_one_endpoint_do_not_hold_up_what_was_lost_behind_them(merchant, endpoint):
    overdue = timezone.now() - timedelta(seconds=70)
    for _ in range(20):
        delivery_to(endpoint, now=overdue)
    lost = delivery_to(merchant=merchant, channel="email", now=overdue + timedelta(seconds=1))
    assert rescue.run(limit=5) == 21
    assert work().filter(actor="send_messages", payload={"ids": [str(lost.pk)]}).exists()


def test_a_rescue_with_more_to_do_than_it_can_comes_to_an_end(endpoint):
    for _ in range(rescue.ROUNDS + 1):
        delivery_to(endpoint, now=timezone.now() - timedelta(seconds=70))
    assert rescue.run(limit=1) == rescue.ROUNDS


def test_what_is_delivered_again_goes_out_in_its_order_whatever_moved_last(endpoint):
    rows = [delivery_to(endpoint, now=NOW + timedelta(seconds=number)) for number in range(5)]
    for row in reversed(rows):
        attempts.give_up(row, DOWN, now=NOW)
    redeliver_since(endpoint=endpoint, since=NOW - timedelta(days=1), everything=False, now=NOW)
    order = []
    while claim := attempts.claim_for_endpoint(endpoint.pk, now=NOW):
        order.append(claim.delivery.pk)
    assert order == sorted(row.pk for row in rows)


def test_a_redelivery_begins_anew_and_keeps_its_story(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    attempt(delivery, Failed(detail="no", final=True), now=NOW)
    redeliver(delivery=delivery, now=NOW)
    assert (again(delivery).state, delivery.tries, delivery.finished_at) == ("pending", 0, None)
    assert attempt(delivery, OK, now=NOW)
    assert list(delivery.attempts.order_by("number").values_list("outcome", flat=True)) == ["failed", "delivered"]


def test_what_a_receiver_answered_can_be_read_in_the_log_without_its_address(merchant):
    """A mail server that is down would else show nowhere but in rows."""
    row = delivery_to(merchant=merchant, channel="email", recipient="canary@example.com", request_id="req-1")
    claim = attempts.claim(row.pk, now=timezone.now())
    with capture_logs() as lines:
        attempts.settle_patiently(claim, DOWN, latency=timedelta(seconds=2))
    (line,) = [line for line in lines if line["event"] == "delivery_answered"]
    assert (line["delivery"], line["channel"], line["request_id"]) == (str(row.pk), "email", "req-1")
    assert (line["answer"], line["detail"], line["milliseconds"]) == ("Failed", "connection refused", 2000)
    assert "canary" not in str(line)
