"""Many declines: somebody may be testing stolen cards with us, and must not get far."""

import json
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.metrics import DatabaseMetrics
from merchants import audit
from merchants.confirmation import CONFIRMED_AT
from merchants.models import AuditEntry, Mode, User
from messaging.consumer import Delivery
from messaging.models import DeadLetter
from payments import intake, velocity
from payments.errors import TooManyDeclines
from payments.models import DeclineBlock, Payment
from payments.operations import process_payments
from payments.velocity import BLOCK_MERCHANT, BLOCK_PAYER, RENEW_EVERY, BlocksInForce, blocks_in_force

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ceilings(settings):
    settings.DECLINES_PER_PAYER, settings.DECLINES_PER_MERCHANT = 3, 0


@pytest.fixture
def declined(accept, sandbox):
    """So many declined payments of one payer."""
    total = 0

    def do(count, user_id="mallory", method="pm_declined"):
        nonlocal total
        for _ in range(count):
            total += 1
            process_payments(payment_ids=[accept(f"d-{total}", user_id=user_id, payment_method=method).pk])
        blocks_in_force.forget()  # as if a second had passed

    return do


def test_a_payer_with_too_many_declines_gets_no_more_payments(declined, accept, post):
    declined(2)
    assert not DeclineBlock.objects.exists()
    declined(1)
    assert DeclineBlock.objects.count() == 1
    block = DeclineBlock.objects.get()
    assert (block.user_id, block.declines, block.ends_at - block.began_at) == ("mallory", 3, timedelta(hours=1))
    refused = post({"amount": "1.00", "user_id": "mallory"}, key="next")
    assert refused.status_code == 429
    body = refused.json()
    assert (body["code"], body["retryable"]) == ("too_many_declines", True)
    assert "this payer" in body["detail"]
    assert 3500 < int(refused["Retry-After"]) <= 3600
    assert not Payment.objects.filter(idempotency_keys__key="next").exists()
    assert post({"amount": "1.00", "user_id": "alice"}, key="other").status_code == 202
    assert post({"amount": "1.00"}, key="nobody").status_code == 202


def test_a_payment_that_goes_well_costs_no_look_at_declines(accept, sandbox, django_assert_num_queries, settings):
    payment = accept("fine", user_id="alice")
    with django_assert_num_queries(0):
        velocity.require_unblocked(payment, now=timezone.now())
    process_payments(payment_ids=[payment.pk])
    assert not DeclineBlock.objects.exists()


def test_a_repetition_is_answered_though_its_payer_is_blocked(declined, post):
    first = post({"amount": "1.00", "user_id": "mallory"}, key="early")
    declined(3)
    again = post({"amount": "1.00", "user_id": "mallory"}, key="early")
    assert (again.status_code, again.content) == (202, first.content)


def test_declines_of_all_payers_block_the_merchant(declined, post, settings):
    settings.DECLINES_PER_MERCHANT = 4
    for number in range(4):
        declined(1, user_id=f"payer-{number}" if number else "")
    refused = post({"amount": "1.00", "user_id": "alice"}, key="next")
    assert refused.status_code == 429
    assert "all payers of this merchant" in refused.json()["detail"]


def test_another_merchant_or_mode_is_never_blocked_with_it(declined, other_merchant, merchant):
    declined(3)
    now = timezone.now()
    for owner, mode in [(other_merchant, Mode.TEST), (merchant, Mode.LIVE)]:
        velocity.require_unblocked(Payment(merchant=owner, mode=mode, user_id="mallory"), now=now)
    with pytest.raises(TooManyDeclines):
        velocity.require_unblocked(Payment(merchant=merchant, mode=Mode.TEST, user_id="mallory"), now=now)


@pytest.mark.parametrize(("own", "general", "blocked"), [(0, 3, False), (2, 0, True), (None, 0, False), (5, 3, False)])
def test_a_merchants_own_ceiling_comes_first_and_0_is_never(declined, merchant, settings, own, general, blocked):
    settings.DECLINES_PER_PAYER = general
    merchant.declines_per_payer = own
    merchant.save()
    declined(3)
    assert DeclineBlock.objects.exists() is blocked


def test_declines_of_more_than_an_hour_ago_count_no_more(declined):
    declined(2)
    with time_machine.travel(timezone.now() + timedelta(hours=2), tick=True), transaction.atomic():
        velocity.count_decline(Payment.objects.first(), now=timezone.now())
    assert not DeclineBlock.objects.exists()


def test_a_block_ends_by_itself(declined, merchant):
    declined(3)
    payer = Payment(merchant=merchant, mode=Mode.TEST, user_id="mallory")
    velocity.require_unblocked(payer, now=timezone.now() + timedelta(minutes=61))


def test_a_block_that_is_in_force_is_not_made_longer_by_declines_under_way(declined, accept):
    waiting = accept("waiting", user_id="mallory", payment_method="pm_declined")
    declined(3)
    ends_at = DeclineBlock.objects.get().ends_at
    process_payments(payment_ids=[waiting.pk])
    assert DeclineBlock.objects.get().ends_at == ends_at


#: 20,000 payments of a merchant that were declined in the last hours, after the pattern of one.
MANY = """
    ALTER TABLE payments_payment DISABLE TRIGGER USER;
    CREATE TEMPORARY TABLE pattern ON COMMIT DROP AS SELECT * FROM payments_payment;
    INSERT INTO payments_payment SELECT (jsonb_populate_record(pattern, jsonb_build_object(
        'id', gen_random_uuid(), 'user_id', number % 1000, 'finished_at', now() - number * interval '1 second'))).*
    FROM pattern, generate_series(1, 20000) AS number;
    ANALYZE payments_payment
"""


@pytest.mark.parametrize(
    ("statement", "index"), [(BLOCK_PAYER, "payment_declined_payer"), (BLOCK_MERCHANT, "payment_declined")]
)
def test_declines_are_never_looked_for_in_all_payments(declined, merchant, statement, index):
    """The planner does not know how few the declines of an hour are."""
    declined(1)
    given = {"merchant": merchant.pk, "mode": "test", "user": "7", "ceiling": 1000, "now": timezone.now()}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(MANY)
        cursor.execute("EXPLAIN " + statement, given)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        transaction.set_rollback(True)
    assert f"using {index} on payments_payment" in plan
    assert "Seq Scan on payments_payment" not in plan


def test_declines_under_way_never_wait_for_each_other_at_the_block(declined, accept):
    declined(2)
    payment = accept("under way", user_id="mallory", payment_method="pm_declined")
    declined(1)
    with connection.get_new_connection(connection.get_connection_params()) as another:
        another.execute("BEGIN; SELECT FROM payments_declineblock FOR UPDATE")
        process_payments(payment_ids=[payment.pk])
        another.execute("ROLLBACK")
    another.close()
    payment.refresh_from_db()
    assert payment.error_code == "declined"


def test_after_a_lift_earlier_declines_count_no_more(declined, merchant, post):
    declined(3)
    block = DeclineBlock.objects.get()
    who = audit.by_shell("root")
    assert velocity.lift(block_id=block.pk, reason="a test run", who=who, now=timezone.now())
    assert not velocity.lift(block_id=block.pk, reason="again", who=who, now=timezone.now())
    declined(2)
    block.refresh_from_db()
    assert block.lifted_by == "shell:root"
    assert post({"amount": "1.00", "user_id": "mallory"}, key="next").status_code == 202
    declined(1)
    block.refresh_from_db()
    assert (block.lifted_at, block.lift_reason) == (None, "")
    entry = AuditEntry.objects.get(action="decline_block.lifted")
    assert (entry.actor, entry.reason, entry.subject) == ("shell:root", "a test run", f"decline_block:{block.pk}")


def test_the_blocks_are_read_once_a_second_at_most(merchant, django_assert_num_queries):
    now = [100.0]
    blocks = BlocksInForce(lambda: now[0])
    payment = Payment(merchant=merchant, mode=Mode.TEST, user_id="mallory")
    with django_assert_num_queries(1):
        for _ in range(10):
            assert blocks.end_of(payment, "mallory") is None
    at = timezone.now()
    DeclineBlock.objects.create(
        merchant=merchant, mode="test", user_id="mallory", declines=3, began_at=at, ends_at=at + timedelta(hours=1)
    )
    assert blocks.end_of(payment, "mallory") is None
    now[0] += RENEW_EVERY
    assert blocks.end_of(payment, "mallory") == at + timedelta(hours=1)


def test_a_message_of_a_blocked_payer_is_a_dead_letter_that_can_be_replayed(declined, merchant):
    declined(3)
    body = {"idempotency_key": "by-message", "amount": "1.00", "user_id": "mallory", "merchant": "shop"}
    delivery = Delivery(body=json.dumps(body).encode(), headers={}, queue="payment_initiation")
    intake.receive(delivery)
    letter = DeadLetter.objects.get()
    assert letter.cause == "too_many_declines"
    assert "replay this message" in letter.detail
    velocity.lift(
        block_id=DeclineBlock.objects.get().pk, reason="known", who=audit.by_shell("root"), now=timezone.now()
    )
    blocks_in_force.forget()
    intake.receive(delivery)
    assert Payment.objects.filter(idempotency_keys__key="by-message").exists()


def test_the_metrics_tell_of_blocks(declined):
    declined(3)
    (family,) = [family for family in DatabaseMetrics().collect() if family.name == "payments_decline_blocks"]
    assert [sample.value for sample in family.samples] == [1.0]


# --- in the console


@pytest.fixture
def staff(db):
    user = User.objects.create_user("ada", password="pw", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_declineblock", "lift_declineblock", "view_payment"])
    )
    return user


@pytest.fixture
def desk(staff):
    client = Client()
    client.force_login(staff)
    session = client.session
    session[CONFIRMED_AT] = timezone.now().timestamp()
    session.save()
    return client


def test_staff_see_blocks_and_lift_them_with_a_reason(declined, desk):
    declined(3)
    block = DeclineBlock.objects.get()
    assert "mallory" in desk.get(reverse("admin:payments_declineblock_changelist")).text
    assert desk.get(reverse("admin:payments_declineblock_changelist") + "?in_force=no").text.count("mallory") == 0
    change, lift = (reverse(f"admin:payments_declineblock_{name}", args=[block.pk]) for name in ("change", "lift"))
    assert lift in desk.get(change).text
    assert "after 3 declines" in desk.get(lift).text
    assert "Nothing was done" in desk.post(lift, {"reason": ""}).text
    assert desk.post(lift, {"reason": "the shop tests"}).status_code == 302
    block.refresh_from_db()
    assert (block.lifted_by, block.lift_reason) == ("user:ada", "the shop tests")
    entry = AuditEntry.objects.get(action="decline_block.lifted")
    assert (entry.via, entry.merchant_id) == ("console", block.merchant_id)
    assert lift not in desk.get(change).text
    assert "over already" in desk.post(lift, {"reason": "again"}, follow=True).text


def test_nobody_lifts_without_the_permission(declined, desk, staff):
    declined(3)
    staff.user_permissions.set(Permission.objects.filter(codename="view_declineblock"))
    block = DeclineBlock.objects.get()
    lift = reverse("admin:payments_declineblock_lift", args=[block.pk])
    assert desk.post(lift, {"reason": "please"}).status_code == 403
    assert lift not in desk.get(reverse("admin:payments_declineblock_change", args=[block.pk])).text
    block.refresh_from_db()
    assert block.lifted_at is None
