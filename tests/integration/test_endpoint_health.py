"""How an endpoint does: its merchant is warned once, it is disabled when nobody is there, it has room by its health."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from merchants.models import Membership, User
from notifications import attempts, endpoints
from notifications.attempts import claim_for_endpoint
from notifications.models import Delivery
from notifications.outcomes import Failed, defect
from tests.deliveries import DOWN, OK, again, attempt, delivery_to, endpoint_of
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
NEW = "https://new.shop.example/hooks"
GONE = Failed(detail="it answered 410: it wants no more webhooks", status_code=410, final=True, gone=True)


@pytest.fixture
def endpoint(merchant):
    merchant.contact_email = "team@shop.example"
    merchant.save()
    return endpoint_of(merchant)


def mails():
    return list(Delivery.objects.filter(channel="email").order_by("id"))


def fail_until(delivery, count, *, now=NOW):
    """So many failures on schedule; when the last one was."""
    for _ in range(count):
        now = max(now, again(delivery).next_attempt_at)
        assert attempt(delivery, DOWN, now=now)
    return now


def test_a_merchant_is_told_after_the_fourth_failure_and_once(endpoint):
    first = delivery_to(endpoint, now=NOW)
    fail_until(first, 3)
    assert mails() == []
    fail_until(first, 1)
    (mail,) = mails()
    assert (mail.event_type, mail.recipient) == ("webhook_endpoint.failing", "team@shop.example")
    assert mail.data["url"] == endpoint.url
    assert mail.data["reason"] == "connection refused"
    assert work().filter(actor="send_messages").count() == 1
    Delivery.objects.filter(pk=first.pk).update(next_attempt_at=NOW + timedelta(days=9))
    fail_until(delivery_to(endpoint, now=NOW), 5)
    assert len(mails()) == 1


def test_after_a_recovery_the_next_outage_is_told_again(endpoint):
    first = delivery_to(endpoint, now=NOW)
    now = fail_until(first, 4)
    assert attempt(first, OK, now=again(first).next_attempt_at)
    assert again(endpoint).failing_since is None
    later = now + timedelta(days=1)
    fail_until(delivery_to(endpoint, now=later), 4, now=later)
    assert len(mails()) == 2


def test_without_a_contact_address_its_administrators_are_told(endpoint, merchant):
    merchant.contact_email = ""
    merchant.save()
    for name, role in (("boss", "admin"), ("clerk", "support")):
        user = User.objects.create(username=name, email=f"{name}@shop.example")
        Membership.objects.create(user=user, merchant=merchant, role=role)
    fail_until(delivery_to(endpoint, now=NOW), 4)
    assert [mail.recipient for mail in mails()] == ["boss@shop.example"]


def test_an_endpoint_without_success_for_120_hours_is_disabled_and_its_merchant_told(endpoint):
    attempt(delivery_to(endpoint, now=NOW), DOWN, now=NOW)
    late = NOW + timedelta(hours=119, minutes=59)
    waiting = delivery_to(endpoint, now=late)
    attempt(waiting, DOWN, now=late)
    assert again(endpoint).enabled
    end = NOW + timedelta(hours=120)
    Delivery.objects.filter(pk=waiting.pk).update(next_attempt_at=end)
    Delivery.objects.exclude(pk=waiting.pk).update(next_attempt_at=end + timedelta(1))
    attempt(waiting, DOWN, now=end)
    assert (again(endpoint).enabled, endpoint.disabled_reason) == (False, "120 hours without a success")
    assert set(Delivery.objects.filter(endpoint=endpoint).values_list("state", flat=True)) == {"canceled"}
    assert [mail.event_type for mail in mails()] == ["webhook_endpoint.disabled"]


def test_a_success_in_between_begins_the_120_hours_anew(endpoint):
    attempt(delivery_to(endpoint, now=NOW), DOWN, now=NOW)
    middle = NOW + timedelta(hours=100)
    Delivery.objects.update(next_attempt_at=middle + timedelta(1))
    attempt(delivery_to(endpoint, now=middle), OK, now=middle)
    end = NOW + timedelta(hours=121)
    Delivery.objects.filter(state="pending").update(next_attempt_at=end + timedelta(1))
    attempt(delivery_to(endpoint, now=end), DOWN, now=end)
    assert again(endpoint).enabled


def test_who_answers_410_is_called_no_more(endpoint):
    delivery, other = delivery_to(endpoint, now=NOW), delivery_to(endpoint, now=NOW)
    attempt(delivery, GONE, now=NOW)
    assert (again(endpoint).enabled, endpoint.disabled_reason) == (False, "it answered 410 Gone")
    assert (again(delivery).state, again(other).state) == ("canceled", "canceled")
    assert not attempt(other, OK, now=NOW + timedelta(days=1))
    assert [mail.event_type for mail in mails()] == ["webhook_endpoint.disabled"]


def test_the_faults_of_its_old_url_are_not_held_against_a_new_one(endpoint):
    fail_until(delivery_to(endpoint, now=NOW - timedelta(hours=121)), 4, now=NOW - timedelta(hours=121))
    endpoints.change(endpoint=endpoint, url=NEW, now=NOW)
    fail_until(delivery_to(endpoint, recipient=NEW, now=NOW), 1)
    assert (again(endpoint).enabled, endpoint.failing_since) == (True, NOW)


@pytest.mark.parametrize("late", [GONE, DOWN], ids=["gone", "down"])
def test_a_late_failure_of_the_old_url_neither_disables_the_new_one_nor_keeps_the_event_from_it(endpoint, late):
    delivery = delivery_to(endpoint, now=NOW)
    claim = claim_for_endpoint(endpoint.pk, now=NOW)
    endpoints.change(endpoint=endpoint, url=NEW, now=NOW)
    attempts.settle(claim, late, latency=timedelta(seconds=9), now=NOW)
    assert (again(endpoint).enabled, endpoint.failing_since) == (True, None)
    assert (again(delivery).state, delivery.recipient) == ("pending", NEW)


def test_a_410_of_one_payments_url_ends_that_delivery_and_spares_its_origin(merchant):
    origin = endpoint_of(merchant, "https://shop.example", kind="payment")
    delivery = delivery_to(origin, now=NOW)
    attempt(delivery, GONE, now=NOW)
    assert again(delivery).state == "canceled"
    assert again(origin).enabled


def test_our_own_defects_are_never_held_against_an_endpoint(endpoint):
    delivery = delivery_to(endpoint, now=NOW)
    attempt(delivery, defect(ValueError("a bug")), now=NOW)
    assert again(endpoint).failing_since is None
    assert "ValueError" in again(delivery).note


def test_what_is_disabled_or_deleted_is_not_called(endpoint):
    delivery_to(endpoint, now=NOW)
    endpoints.change(endpoint=endpoint, enabled=False, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW) is None


# --- room


def test_an_endpoint_never_has_more_calls_at_once_than_its_cap(endpoint, settings):
    settings.WEBHOOKS_PER_ENDPOINT = 3
    for _ in range(5):
        delivery_to(endpoint, now=NOW)
    claims = [claim_for_endpoint(endpoint.pk, now=NOW) for _ in range(5)]
    assert [claim is not None for claim in claims] == [True] * 3 + [False] * 2
    attempts.settle(claims[0], OK, latency=timedelta(0), now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW) is None


def test_one_that_fails_is_called_once_at_a_time(endpoint):
    for _ in range(3):
        delivery_to(endpoint, now=NOW)
    attempt(delivery_to(endpoint, now=NOW - timedelta(1)), DOWN, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW) is None


def test_calls_of_dead_workers_take_no_room_for_ever(endpoint, settings):
    settings.WEBHOOKS_PER_ENDPOINT = 1
    delivery_to(endpoint, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW)
    assert claim_for_endpoint(endpoint.pk, now=NOW) is None
    assert claim_for_endpoint(endpoint.pk, now=NOW + attempts.LEASE)


def test_what_has_waited_longest_goes_first(endpoint):
    young, old = delivery_to(endpoint, now=NOW), delivery_to(endpoint, now=NOW - timedelta(hours=1))
    assert claim_for_endpoint(endpoint.pk, now=NOW).delivery == old
    assert claim_for_endpoint(endpoint.pk, now=NOW).delivery == young


def test_a_claim_never_reads_all_that_waits_for_its_endpoint(endpoint):
    """Two threads claim for all endpoints: one with a hundred thousand waiting would hold up all others."""
    waiting = [unsaved_to(endpoint, next_attempt_at=NOW, revive_at=NOW) for _ in range(3_000)]
    Delivery.objects.bulk_create(waiting, batch_size=1_000)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE notifications_delivery")
    under_way = Delivery.objects.filter(endpoint=endpoint, state="pending", lease_expires_at__gt=NOW)
    assert "delivery_in_hand" in under_way.explain()
    waiting = Delivery.objects.filter(attempts.may_be_claimed(now=NOW), endpoint=endpoint)
    plan = waiting.order_by("next_attempt_at", "id")[:1].explain()
    assert "delivery_waiting" in plan
    assert "Sort" not in plan


def unsaved_to(endpoint, **fields):
    about = {"merchant_id": endpoint.merchant_id, "mode": "test", "event_id": uuid.uuid4(), "occurred_at": NOW}
    return Delivery(channel="webhook", recipient=endpoint.url, endpoint=endpoint, **about, **fields)
