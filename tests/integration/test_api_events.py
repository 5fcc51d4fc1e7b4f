"""`GET /events` and `GET /payments/{id}/events`: all that happened, in order, and nothing of anybody else's."""

from base64 import b64encode
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from merchants import api_keys
from merchants.models import Mode, Scope
from payments import transitions
from payments.events import SNAPSHOT_SCHEMA
from payments.models import PaymentEvent
from payments.reads import represent, timestamp
from payments.serializers import EventSerializer, SnapshotSerializer
from payments.states import Status

URL = "/api/v1/events"

pytestmark = pytest.mark.django_db


def url_of(payment):
    return f"/api/v1/payments/{payment.pk}/events"


def client_for(merchant, mode=Mode.TEST, **limits):
    key = f"sk_{mode}_{uuid4()}"
    api_keys.register_key(key, merchant=merchant, mode=mode, name="tests", **limits)
    return Client(headers={"authorization": f"Bearer {key}"}, raise_request_exception=False)


def problem(response, status, code):
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == code
    return response.json()


def results(client, url, **query):
    response = client.get(url, query)
    assert response.status_code == 200, response.content
    return response.json()["results"]


def pages(client, url, **query):
    """The results, page by page."""
    page = client.get(url, query).json()
    yield page["results"]
    while page["next"]:
        rest = urlsplit(page["next"])
        page = client.get(f"{rest.path}?{rest.query}").json()
        yield page["results"]


def succeed(payment, detours=0):
    """Take a payment to its end, asking people to look at it as often on the way."""
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        for _ in range(detours):
            transitions.flag_for_review(payment, now=timezone.now())
        transitions.move(payment, Status.SUCCEEDED, now=timezone.now(), amount_captured=payment.amount)


def is_newest_first(shown):
    ids = [event["id"] for event in shown]
    return ids == sorted(set(ids), reverse=True)


# --- one payment's


def test_a_payments_events_tell_its_story_in_order(client, accept):
    payment = accept(order_id="o-1", amount=1050)
    before = represent(payment)
    succeed(payment)
    accept(key="another")
    shown = results(client, url_of(payment))
    assert [(event["version"], event["type"]) for event in shown] == [
        (1, "payment.created"),
        (2, "payment.processing"),
        (3, "payment.succeeded"),
    ]
    assert {event["payment_id"] for event in shown} == {str(payment.pk)}
    assert {event["request_id"] for event in shown} == {"request-key-1"}
    assert shown[0]["data"] == {"schema": SNAPSHOT_SCHEMA, **before}
    assert shown[2]["data"] == {"schema": SNAPSHOT_SCHEMA, **represent(payment)}


def test_no_field_of_an_event_is_shown_that_is_not_documented_nor_the_other_way_round(client, accept):
    payment = accept()
    (shown,) = results(client, url_of(payment))
    assert shown.keys() == EventSerializer().fields.keys()
    assert shown["data"].keys() == SnapshotSerializer().fields.keys()
    stored = PaymentEvent.objects.get()
    assert (shown["id"], shown["object"]) == (str(stored.pk), "event")
    assert shown["created_at"] == timestamp(stored.created_at)
    assert results(client, URL) == [shown]


def test_no_page_of_a_payments_events_loses_or_repeats_one_beyond_ten(client, accept):
    """As text, version 10 would come before version 2."""
    payment = accept()
    succeed(payment, detours=10)
    seen = [[event["version"] for event in page] for page in pages(client, url_of(payment), page_size=5)]
    assert seen == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13]]


@pytest.mark.parametrize("written", ["{id}/events", "{id}/events/"])
def test_the_events_of_a_payment_that_does_not_exist_are_a_404(client, written):
    problem(client.get("/api/v1/payments/" + written.format(id=uuid4())), 404, "not_found")


def test_another_merchants_or_modes_events_do_not_exist(client, accept, merchant, other_merchant):
    payment = accept()
    missing = problem(client.get(f"/api/v1/payments/{uuid4()}/events"), 404, "not_found")
    for stranger in (client_for(other_merchant), client_for(merchant, Mode.LIVE)):
        refusal = problem(stranger.get(url_of(payment)), 404, "not_found")
        assert refusal["detail"] == missing["detail"]
        assert results(stranger, URL) == []
        assert results(stranger, URL, payment_id=payment.pk) == []
    assert len(results(client, url_of(payment))) == len(results(client, URL)) == 1


def test_no_credential_without_the_scope_reads_events(merchant, accept):
    writer = client_for(merchant, scopes=[Scope.PAYMENTS_WRITE])
    for url in (URL, url_of(accept())):
        problem(writer.get(url), 403, "forbidden")
        problem(Client().get(url), 401, "unauthenticated")


# --- all


def test_all_events_are_listed_newest_first(client, accept):
    for number in range(3):
        succeed(accept(key=f"key-{number}"))
    shown = results(client, URL)
    assert len(shown) == 9
    assert is_newest_first(shown)
    assert shown[0]["type"] == "payment.succeeded"


def test_no_page_loses_or_repeats_an_event_while_new_ones_arrive(client, accept):
    for number in range(7):
        accept(key=f"key-{number}")
    before = {event["id"] for event in results(client, URL)}
    seen = []
    for number, page in enumerate(pages(client, URL, page_size=3)):
        accept(key=f"late-{number}")
        seen += page
    assert is_newest_first(seen)
    assert {event["id"] for event in seen} == before


@pytest.mark.parametrize("payments", [1, 20])
def test_a_longer_page_of_events_costs_no_more_queries(client, accept, django_assert_num_queries, payments):
    for number in range(payments):
        payment = accept(key=f"key-{number}")
    succeed(payment, detours=payments)
    client.get(URL)  # the key's first use is noted once a minute
    with django_assert_num_queries(3):  # the key with its merchant, the limit's counter, and the page
        assert len(results(client, URL)) == 2 * payments + 2
    with django_assert_num_queries(4):  # and whether the caller has such a payment
        assert len(results(client, url_of(payment))) == payments + 3


def test_filters_of_events_narrow_down_and_combine(client, accept):
    one, two = accept(key="1"), accept(key="2")
    succeed(two)
    created = results(client, URL, type="payment.created")
    assert {event["payment_id"] for event in created} == {str(one.pk), str(two.pk)}
    assert len(results(client, URL, payment_id=two.pk)) == 3
    (last,) = results(client, URL, payment_id=two.pk, type="payment.succeeded")
    assert last["data"]["status"] == "succeeded"
    assert results(client, URL, payment_id=one.pk, type="payment.succeeded") == []
    assert results(client, URL, payment_id=uuid4()) == []


def test_the_next_page_of_events_keeps_the_filters(client, accept):
    for number in range(3):
        succeed(accept(key=f"key-{number}"))
    seen = [event for page in pages(client, URL, type="payment.succeeded", page_size=2) for event in page]
    assert [event["type"] for event in seen] == ["payment.succeeded"] * 3


def test_a_range_of_time_has_the_event_at_its_beginning_and_not_at_its_end(client, accept):
    accept()
    moment = PaymentEvent.objects.get().created_at.astimezone(UTC).isoformat()
    assert len(results(client, URL, created_from=moment)) == 1
    assert results(client, URL, created_before=moment) == []
    assert results(client, URL, created_from=datetime(2999, 1, 1, tzinfo=UTC).isoformat()) == []


def test_a_misspelt_filter_of_events_never_shows_everything(client, accept):
    payment = accept()
    refusal = problem(client.get(URL, {"payment": payment.pk}), 400, "invalid_request")
    assert [fault["parameter"] for fault in refusal["errors"]] == ["payment"]
    assert "payment_id" in refusal["detail"]
    refusal = problem(client.get(url_of(payment), {"type": "payment.created"}), 400, "invalid_request")
    assert [fault["parameter"] for fault in refusal["errors"]] == ["type"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("type", "payment.paid"), ("type", "created"), ("type", "\x00"), ("payment_id", "1"), ("payment_id", "\x00"),
        ("created_from", "yesterday"), ("created_before", "\x00"), ("page_size", "0"), ("page_size", "201"),
    ],
)  # fmt: skip
def test_a_value_that_a_filter_of_events_cannot_have_is_refused_by_name(client, accept, parameter, value):
    accept()
    refusal = problem(client.get(URL, {parameter: value}), 400, "invalid_request")
    assert [fault["parameter"] for fault in refusal["errors"]] == [parameter]


def cursor(text):
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "garbage", cursor("p=garbage"), cursor("p=\x00"), cursor("p=-1"), cursor("p=²"), cursor("p=9999999999"),
        cursor("o=1"), cursor(f"p={'9' * 5000}"),
    ],
)  # fmt: skip
def test_a_cursor_of_events_that_is_not_ours_is_told_to_begin_again(client, accept, value):
    payment = accept()
    for url in (URL, url_of(payment)):
        assert "begin again" in problem(client.get(url, {"cursor": value}), 400, "invalid_request")["detail"]


def test_a_cursor_of_the_other_list_is_told_to_begin_again(client, accept):
    payment = accept()
    problem(client.get(URL, {"cursor": cursor("p=1")}), 400, "invalid_request")
    problem(client.get(url_of(payment), {"cursor": cursor(f"p={uuid4()}")}), 400, "invalid_request")


def test_a_cursor_of_another_merchants_events_shows_nothing_of_theirs(client, accept, other_merchant):
    for number in range(3):
        accept(key=f"key-{number}")
    theirs = client.get(URL, {"page_size": 1}).json()["next"]
    assert client_for(other_merchant).get(theirs).json()["results"] == []
