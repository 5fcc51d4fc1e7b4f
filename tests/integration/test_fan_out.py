"""From an event to its deliveries: who is told, by which channel, and each once."""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from merchants.models import Mode
from messaging import subscribers
from notifications import attempts, endpoints, fan_out
from notifications.models import Audience, Channel, Contact, Delivery, Preference, WebhookEndpoint
from payments.gateways.base import Approved, Declined
from payments.models import PaymentEvent
from tests.claiming import claim_one, settle_one
from tests.outbox import subscribed, work

pytestmark = pytest.mark.django_db(transaction=True)

HOOK = "https://shop.example/hooks"


def told(**about):
    """Channel, recipient and event type of every delivery."""
    rows = Delivery.objects.filter(**about).order_by("channel", "event_id")
    return [(row.channel, row.recipient, row.event_type) for row in rows]


def pay(payment, answer=None):
    settle_one(claim_one(payment.pk), answer or Approved(reference="r"))
    return payment


def fan_out_all():
    while subscribers.run_once("notifications"):
        pass


@pytest.fixture
def endpoint(merchant):
    made, _ = endpoints.create(merchant=merchant, mode=Mode.TEST, url=HOOK)
    return made


@pytest.fixture
def prefer(merchant):
    def do(channel, audience, *types, addresses=()):
        Preference.objects.create(
            merchant=merchant, channel=channel, audience=audience, event_types=types, addresses=list(addresses)
        )

    return do


# --- webhooks


def test_an_endpoint_is_told_of_every_event_once(accept, endpoint):
    payment = pay(accept())
    fan_out_all()
    events = list(payment.events.order_by("version"))
    rows = Delivery.objects.order_by("event_id")
    assert [row.event_id for row in rows] == [event.pk for event in events]
    assert {(row.payment_id, row.endpoint_id, row.state) for row in rows} == {(payment.pk, endpoint.pk, "pending")}
    assert [row.request_id for row in rows] == ["request-key-1"] * 3
    assert sorted(work().filter(actor="call_webhooks").values_list("payload__ids__0", flat=True)) == sorted(
        str(row.pk) for row in rows
    )


def test_events_with_very_many_recipients_are_not_too_much_for_one_statement(accept, merchant):
    """200 events, the most that are taken at once, for 15 endpoints: 3,000 rows of two dozen columns."""
    for number in range(15):
        endpoints.create(merchant=merchant, mode=Mode.TEST, url=f"{HOOK}/{number}")
    for number in range(200):
        accept(f"many-{number}")
    assert subscribers.run_once("notifications") == 200
    assert Delivery.objects.count() == 3_000


def test_every_message_twice_and_out_of_order_changes_nothing(accept, endpoint, merchant, prefer):
    prefer(Channel.EMAIL, Audience.MERCHANT, "payment.succeeded", addresses=["boss@example.org"])
    pay(accept(receipt_email="a@example.org", webhook_url="https://other.example/x"))
    ids = list(PaymentEvent.objects.values_list("pk", flat=True)) * 2
    random.shuffle(ids)
    with transaction.atomic():
        for id_ in ids:
            fan_out.take([id_])
        fan_out.take(ids)
    fan_out_all()
    assert Delivery.objects.count() == 3 + 3 + 2
    keys = Delivery.objects.values_list("event_id", "channel", "recipient")
    assert len(set(keys)) == len(keys)


def test_a_merchant_is_never_told_of_anothers_payments(accept, other_merchant):
    endpoints.create(merchant=other_merchant, mode=Mode.TEST, url=HOOK)
    Preference.objects.create(
        merchant=other_merchant,
        channel="email",
        audience="merchant",
        event_types=["payment.succeeded"],
        addresses=["spy@example.org"],
    )
    Contact.objects.create(merchant=other_merchant, mode="test", user_id="u-1", email="wrong@example.org")
    pay(accept(user_id="u-1"))
    fan_out_all()
    assert told() == []


def test_live_endpoints_are_never_told_of_test_payments(accept, merchant):
    endpoints.create(merchant=merchant, mode=Mode.LIVE, url=HOOK)
    Contact.objects.create(merchant=merchant, mode="live", user_id="u-1", email="live@example.org")
    pay(accept(user_id="u-1"))
    fan_out_all()
    assert told() == []


def test_an_endpoint_is_not_told_of_what_it_did_not_ask_for(accept, merchant):
    endpoints.create(merchant=merchant, mode=Mode.TEST, url=HOOK, event_types=["payment.succeeded"])
    pay(accept())
    pay(accept("key-2", payment_method="pm_declined"), Declined(decline_code="card_declined", detail=""))
    fan_out_all()
    assert told() == [("webhook", HOOK, "payment.succeeded")]


def test_a_disabled_endpoint_is_not_called_and_can_be_told_later(accept, endpoint):
    endpoints.change(endpoint=endpoint, enabled=False, now=timezone.now())
    accept()
    fan_out_all()
    row = Delivery.objects.get()
    assert (row.state, row.note, row.revive_at) == ("canceled", "the endpoint is disabled", None)
    assert not work().filter(actor="call_webhooks").exists()


def test_what_is_written_while_its_endpoint_is_disabled_does_not_wait_for_ever(accept, endpoint):
    """Whoever writes it saw the endpoint enabled; whoever disables it does not see what is not committed."""
    accept()
    with ThreadPoolExecutor(1) as elsewhere, transaction.atomic():
        ids = [UUID(row.payload["ids"][0]) for row in subscribed()]
        fan_out.take(ids)
        elsewhere.submit(disable_elsewhere, endpoint).result()
    delivery = Delivery.objects.get()
    assert delivery.state == "pending"
    assert attempts.claim_for_endpoint(endpoint.pk, now=timezone.now()) is None
    delivery.refresh_from_db()
    assert (delivery.state, delivery.note) == ("canceled", "the endpoint is disabled: disabled by its merchant")


def disable_elsewhere(endpoint):
    try:
        endpoints.change(endpoint=endpoint, now=timezone.now(), enabled=False)
    finally:
        connections.close_all()


def test_a_deleted_endpoint_is_not_told_at_all(accept, endpoint):
    endpoints.delete(endpoint=endpoint, now=timezone.now())
    accept()
    fan_out_all()
    assert told() == []


def test_a_payments_own_url_is_called_and_its_origin_has_one_secret(accept):
    for number in range(3):
        accept(f"key-{number}", webhook_url=f"https://Shop.example/cb?n={number}")
    fan_out_all()
    made = WebhookEndpoint.objects.get()
    assert (made.kind, made.url) == ("payment", "https://shop.example")
    assert {row.recipient for row in Delivery.objects.all()} == {f"https://Shop.example/cb?n={n}" for n in range(3)}
    assert {row.endpoint_id for row in Delivery.objects.all()} == {made.pk}


def test_a_url_that_is_registered_too_is_called_once_with_the_registered_secret(accept, endpoint):
    accept(webhook_url=HOOK)
    fan_out_all()
    (row,) = Delivery.objects.all()
    assert row.endpoint_id == endpoint.pk


# --- payers and merchants' people


def test_a_payer_who_gave_an_address_gets_a_receipt_and_nothing_else(accept):
    pay(accept(receipt_email="a@example.org", receipt_phone="+4915123456789"))
    fan_out_all()
    assert told() == [
        ("email", "a@example.org", "payment.succeeded"),
        ("sms", "+4915123456789", "payment.succeeded"),
    ]
    assert set(Delivery.objects.values_list("audience", flat=True)) == {"payer"}


def test_a_payer_of_whom_nothing_is_known_is_not_told(accept):
    pay(accept(user_id="u-1"))
    fan_out_all()
    assert told() == []


def test_a_payer_is_told_at_the_address_behind_the_user_id(accept, merchant):
    Contact.objects.create(merchant=merchant, mode="test", user_id="u-1", email="known@example.org", language="de")
    pay(accept(user_id="u-1"))
    fan_out_all()
    row = Delivery.objects.get()
    assert (row.channel, row.recipient, row.language) == ("email", "known@example.org", "de")


def test_the_address_that_came_with_the_payment_goes_before_the_known_one(accept, merchant):
    Contact.objects.create(
        merchant=merchant, mode="test", user_id="u-1", email="known@example.org", phone="+4930123456"
    )
    pay(accept(user_id="u-1", receipt_email="given@example.org"))
    fan_out_all()
    assert told() == [("email", "given@example.org", "payment.succeeded"), ("sms", "+4930123456", "payment.succeeded")]


def test_what_a_merchant_has_decided_holds_and_not_the_default(accept, prefer, merchant):
    merchant.language = "de"
    merchant.save()
    prefer(Channel.EMAIL, Audience.PAYER, "payment.failed")
    prefer(Channel.SMS, Audience.PAYER)
    prefer(Channel.SMS, Audience.MERCHANT, "payment.failed", addresses=["+4930123456"])
    pay(accept(receipt_email="a@example.org", receipt_phone="+4915123456789"))
    fan_out_all()
    assert told() == []
    declined = Declined(decline_code="card_declined", detail="")
    pay(accept("key-2", receipt_email="a@example.org", receipt_phone="+4915123456789"), declined)
    fan_out_all()
    assert told() == [("email", "a@example.org", "payment.failed"), ("sms", "+4930123456", "payment.failed")]
    assert set(Delivery.objects.values_list("language", flat=True)) == {"de"}


def test_a_channel_that_is_switched_off_makes_no_deliveries_and_looks_nobody_up(accept, settings):
    settings.EMAIL_ON, settings.SMS_BACKEND = False, None
    pay(accept(receipt_email="a@example.org", receipt_phone="+4915123456789", user_id="u-1"))
    with CaptureQueriesContext(connection) as asked:
        fan_out_all()
    assert told() == []
    assert not any("notifications_contact" in query["sql"] for query in asked)


# --- many at once


def test_a_batch_of_events_costs_no_query_for_each(accept, endpoint, merchant, django_assert_max_num_queries):
    for number in range(20):
        Contact.objects.create(merchant=merchant, mode="test", user_id=f"u-{number}", email=f"{number}@example.org")
        accept(f"key-{number}", user_id=f"u-{number}", webhook_url=f"https://shop{number}.example/")
    with django_assert_max_num_queries(20):
        subscribers.run_once("notifications")
    assert Delivery.objects.count() == 40


def test_an_event_that_does_not_exist_is_no_trouble():
    fan_out.take([uuid.uuid4()])
    assert told() == []


def test_what_is_pending_has_a_time_for_the_rescue(accept, endpoint):
    accept()
    fan_out_all()
    row = Delivery.objects.get()
    assert timedelta(seconds=30) < row.revive_at - timezone.now() <= timedelta(seconds=60)
