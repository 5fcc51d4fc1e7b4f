"""`/webhook-deliveries` and `/notifications`: what became of each, and once more on request."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.utils import timezone

from merchants.models import Mode, Scope
from notifications import endpoints
from notifications.models import Channel, Delivery
from notifications.outcomes import Delivered, Failed
from notifications.serializers import DeliverySerializer, WholeDeliverySerializer
from tests.deliveries import HOOK
from tests.notifying import client_for, endpoint, message, settle, webhook
from tests.outbox import work

WEBHOOKS = "/api/v1/webhook-deliveries"
MESSAGES = "/api/v1/notifications"
DOWN = Failed(detail="answered 503", status_code=503, excerpt="sorry")
REFUSED = Failed(detail="no such mailbox", final=True)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ours(merchant):
    return endpoint(merchant)


def ok(response, status=200):
    assert response.status_code == status, response.content
    return response.json()


def problem(response, status, code):
    assert response["Content-Type"] == "application/problem+json", response.content
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    return response.json()


def ids(client, url, **query):
    return [found["id"] for found in ok(client.get(url, query))["results"]]


def again(client, delivery):
    family = WEBHOOKS if delivery.channel == Channel.WEBHOOK else MESSAGES
    return client.post(f"{family}/{delivery.pk}/redeliver")


# --- looking


def test_a_delivery_tells_of_every_attempt_in_order(client, ours):
    delivery = webhook(ours)
    settle(delivery, DOWN)
    settle(delivery, Delivered(status_code=204))
    shown = ok(client.get(f"{WEBHOOKS}/{delivery.pk}"))
    assert (shown["state"], shown["tries"], shown["next_attempt_at"]) == ("delivered", 2, None)
    told = [(it["number"], it["outcome"], it["status_code"], it["detail"], it["excerpt"]) for it in shown["attempts"]]
    assert told == [(1, "failed", 503, "answered 503", "sorry"), (2, "delivered", 204, None, None)]
    assert {it["latency_ms"] for it in shown["attempts"]} == {7}


def test_the_answers_are_what_the_documentation_says(client, ours):
    delivery = settle(webhook(ours), REFUSED)
    assert list(ok(client.get(WEBHOOKS))["results"][0]) == list(DeliverySerializer().fields)
    whole = ok(client.get(f"{WEBHOOKS}/{delivery.pk}"))
    assert list(whole) == list(WholeDeliverySerializer().fields)
    assert list(whole["attempts"][0]) == list(WholeDeliverySerializer().fields["attempts"].child.fields)
    assert list(ok(again(client, delivery), 202)) == list(DeliverySerializer().fields)
    assert whole["links"] == {"self": f"{WEBHOOKS}/{delivery.pk}"}


def test_webhooks_and_messages_are_never_mixed(client, merchant, ours):
    hook, mail = webhook(ours), message(merchant)
    sms = message(merchant, channel=Channel.SMS, recipient="+4915123456789")
    assert ids(client, WEBHOOKS) == [str(hook.pk)]
    assert ids(client, MESSAGES) == [str(sms.pk), str(mail.pk)]
    for path in (f"{MESSAGES}/{hook.pk}", f"{WEBHOOKS}/{mail.pk}"):
        problem(client.get(path), 404, "not_found")
        problem(client.post(f"{path}/redeliver"), 404, "not_found")


def test_no_recipient_is_shown_in_full(client, merchant, ours):
    canary = "canary7"
    url = f"{HOOK}?token={canary}&{canary}&b="
    webhook(ours), message(merchant, recipient=f"{canary}@{canary}.example.com")
    Delivery.objects.filter(channel="webhook").update(recipient=url)
    message(merchant, channel=Channel.SMS, recipient="+4915123456789")
    shown = [found["recipient"] for url in (WEBHOOKS, MESSAGES) for found in ok(client.get(url))["results"]]
    assert shown == [f"{HOOK}?token=…&…&b=…", "+49…789", "c…@c….com"]
    for delivery in Delivery.objects.all():
        family = WEBHOOKS if delivery.channel == Channel.WEBHOOK else MESSAGES
        for answer in (client.get(family), client.get(f"{family}/{delivery.pk}")):
            assert canary not in answer.content.decode()
            assert "4915123456789" not in answer.content.decode()


def test_the_list_is_by_cursor_and_loses_nothing(client, ours):
    made = [str(webhook(ours).pk) for _ in range(5)]
    page = ok(client.get(WEBHOOKS, {"page_size": 2}))
    shown = [found["id"] for found in page["results"]]
    while page["next"]:
        rest = urlsplit(page["next"])
        page = ok(client.get(f"{rest.path}?{rest.query}"))
        shown += [found["id"] for found in page["results"]]
    assert shown == made[::-1]


def test_the_lists_are_narrowed_down(client, merchant, ours):
    first, second = webhook(ours), webhook(endpoint(merchant, url=f"{HOOK}/2"), event_type="payment.failed")
    Delivery.objects.filter(pk=first.pk).update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    for query, expected in (
        ({"event_type": "payment.failed"}, second),
        ({"endpoint_id": ours.pk}, first),
        ({"payment_id": second.payment_id}, second),
        ({"created_before": "2026-01-02T00:00:00Z"}, first),
        ({"created_from": "2026-01-01T01:00:01+01:00"}, second),
    ):
        assert ids(client, WEBHOOKS, **query) == [str(expected.pk)]
    settle(second, REFUSED)
    assert ids(client, WEBHOOKS, state="failed") == [str(second.pk)]
    assert ids(client, f"/api/v1/webhook-endpoints/{ours.pk}/deliveries", state="pending") == [str(first.pk)]
    assert ids(client, WEBHOOKS, endpoint_id=uuid4()) == []


def test_messages_are_narrowed_down_by_channel_and_audience(client, merchant):
    mail = message(merchant)
    sms = message(merchant, channel=Channel.SMS, recipient="+4915123456789", audience="payer")
    assert ids(client, MESSAGES, channel="email") == [str(mail.pk)]
    assert ids(client, MESSAGES, audience="payer") == [str(sms.pk)]


@pytest.mark.parametrize(
    ("url", "query"),
    [
        (WEBHOOKS, {"state": "lost"}),
        (WEBHOOKS, {"event_type": "payment.exploded"}),
        (WEBHOOKS, {"endpoint": str(uuid4())}),
        (WEBHOOKS, {"channel": "email"}),
        (WEBHOOKS, {"created_from": "yesterday"}),
        (MESSAGES, {"channel": "webhook"}),
        (MESSAGES, {"recipient": "max@example.com"}),
        (MESSAGES, {"endpoint_id": str(uuid4())}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.rpartition("/")[2],
)
def test_a_misspelt_parameter_does_not_show_everything(client, url, query):
    assert problem(client.get(url, query), 400, "invalid_request")["errors"][0]["parameter"] == next(iter(query))


# --- whose it is


def test_nobody_sees_another_merchants_deliveries_nor_those_of_the_other_mode(merchant, other_merchant, ours):
    hook, mail = settle(webhook(ours), REFUSED), settle(message(merchant), REFUSED)
    for stranger in (client_for(other_merchant), client_for(merchant, Mode.LIVE)):
        for family, delivery in ((WEBHOOKS, hook), (MESSAGES, mail)):
            assert ids(stranger, family) == []
            problem(stranger.get(f"{family}/{delivery.pk}"), 404, "not_found")
            problem(again(stranger, delivery), 404, "not_found")
    assert set(Delivery.objects.values_list("state", flat=True)) == {"failed"}


@pytest.mark.parametrize(
    ("scope", "may"),
    [
        (Scope.WEBHOOKS_READ, {"look at webhooks"}),
        (Scope.WEBHOOKS_WRITE, {"redeliver webhooks"}),
        (Scope.NOTIFICATIONS_READ, {"look at messages"}),
        (Scope.NOTIFICATIONS_WRITE, {"redeliver messages"}),
        (Scope.PAYMENTS_WRITE, set()),
    ],
)
def test_a_key_may_what_its_scope_says_and_no_more(merchant, ours, scope, may):
    weak = client_for(merchant, scopes=[scope])
    hook, mail = settle(webhook(ours), REFUSED), settle(message(merchant), REFUSED)
    answers = {
        "look at webhooks": weak.get(f"{WEBHOOKS}/{hook.pk}"),
        "redeliver webhooks": again(weak, hook),
        "look at messages": weak.get(f"{MESSAGES}/{mail.pk}"),
        "redeliver messages": again(weak, mail),
    }
    assert {what for what, answer in answers.items() if answer.status_code < 300} == may
    assert {answer.status_code for what, answer in answers.items() if what not in may} == {403}


# --- once more


@pytest.mark.parametrize("result", [REFUSED, Delivered(status_code=200)], ids=["failed", "delivered"])
def test_an_ended_webhook_goes_out_again_under_its_own_event_id(client, ours, result):
    delivery = settle(webhook(ours), result)
    work().delete()
    response = again(client, delivery)
    shown = ok(response, 202)
    assert (shown["state"], shown["tries"], shown["event_id"]) == ("pending", 0, str(delivery.event_id))
    assert response["Location"] == f"{WEBHOOKS}/{delivery.pk}"
    assert work().get().payload == {"ids": [str(delivery.pk)]}
    settle(Delivery.objects.get(pk=delivery.pk), Delivered(status_code=200))
    assert [it["number"] for it in ok(client.get(f"{WEBHOOKS}/{delivery.pk}"))["attempts"]] == [1, 2]


def test_an_ended_message_goes_out_again(client, merchant):
    mail = settle(message(merchant), REFUSED)
    work().delete()
    response = again(client, mail)
    assert ok(response, 202)["state"] == "pending"
    assert response["Location"] == f"{MESSAGES}/{mail.pk}"
    assert work().get().queue == "notifications"


def test_what_is_under_way_is_not_begun_twice(client, merchant, ours):
    for delivery in (webhook(ours), message(merchant)):
        problem(again(client, delivery), 409, "delivery_under_way")
    failed = settle(webhook(ours, next_attempt_at=timezone.now() - timedelta(hours=1)), REFUSED)
    ok(again(client, failed), 202)
    problem(again(client, failed), 409, "delivery_under_way")


def test_nothing_goes_out_again_to_an_endpoint_that_wants_nothing(client, ours):
    delivery = settle(webhook(ours), REFUSED)
    work().delete()
    endpoints.change(endpoint=ours, enabled=False, now=timezone.now())
    problem(again(client, delivery), 409, "webhook_endpoint_disabled")
    endpoints.delete(endpoint=ours, now=timezone.now())
    problem(again(client, delivery), 409, "webhook_endpoint_deleted")
    assert Delivery.objects.get().state == "failed"
    assert not work().exists()


def test_what_goes_out_again_goes_to_where_the_endpoint_is_now(client, ours):
    delivery = settle(webhook(ours), Delivered(status_code=200))
    endpoints.change(endpoint=ours, url=f"{HOOK}/new", now=timezone.now())
    assert ok(again(client, delivery), 202)["recipient"] == f"{HOOK}/new"


def test_a_payments_own_url_stays_what_it_was(client, merchant):
    own = endpoint(merchant, url="https://shop.example", kind="payment")
    delivery = settle(webhook(own), REFUSED)
    Delivery.objects.update(recipient=f"{HOOK}/of-the-payment")
    assert ok(again(client, delivery), 202)["recipient"] == f"{HOOK}/of-the-payment"
