"""`/analytics`: what the API tells of computed rows, to whom, and when it says that nothing has changed."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import transaction

from merchants.models import Mode, Scope
from payments.states import Status
from tests.metrics import finish, pay
from tests.notifying import client_for

DAILY = "/api/v1/analytics/daily"
SUMMARY = "/api/v1/analytics/summary"
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
RANGE = "from=2026-03-01&to=2026-03-31"


def compute():
    call_command("compute_daily_metrics", rebuild=True, verbosity=0)


@pytest.fixture
def shop(transactional_db, merchant, other_merchant):
    """Two days of one merchant, in two currencies, and one of another's."""
    with transaction.atomic():
        finish(pay(merchant, NOON, amount=1050), Status.SUCCEEDED, after=1)
        finish(pay(merchant, NOON, amount=100, currency="JPY"), Status.SUCCEEDED, after=2)
        finish(pay(merchant, NOON), Status.FAILED, after=3, error_code="declined", decline_code="expired_card")
        finish(pay(merchant, NOON + timedelta(days=1), amount=95), Status.SUCCEEDED, after=1)
        pay(merchant, NOON + timedelta(days=1))
        finish(pay(merchant, NOON, amount=7777, mode=Mode.LIVE), Status.SUCCEEDED)
        finish(pay(other_merchant, NOON, amount=999_999), Status.SUCCEEDED)
    compute()
    return merchant


def ok(response):
    assert response.status_code == 200, response.content
    return response.json()


def faults(response):
    assert response.status_code == 400, response.content
    return {fault["parameter"] for fault in response.json()["errors"]}


def test_a_day_never_shows_another_merchants_or_modes_money(shop, client):
    answer = ok(client.get(f"{DAILY}?{RANGE}"))
    assert [(row["day"], row["currency"], row["volume"]) for row in answer["data"]] == [
        ("2026-03-10", "EUR", "10.50"),
        ("2026-03-10", "JPY", "100"),
        ("2026-03-11", "EUR", "0.95"),
    ]
    assert (answer["from"], answer["to"], answer["time_zone"]) == ("2026-03-01", "2026-03-31", "UTC")
    euros = answer["data"][0]
    assert (euros["accepted"], euros["succeeded"], euros["failed"], euros["success_rate"]) == (2, 1, 1, 0.5)
    assert euros["failure_reasons"] == {"expired_card": 1}
    assert euros["seconds"] == {"mean": 2.0, "p50": 1.0, "p95": 3.0, "p99": 3.0}


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ("group_by=none", {(None, None)}),
        ("group_by=gateway", {(None, "sandbox")}),
        ("group_by=currency,gateway", {("EUR", "sandbox"), ("JPY", "sandbox")}),
        ("currency=JPY", {("JPY", None)}),
        ("gateway=sandbox&group_by=none", {(None, "sandbox")}),
        ("gateway=other", set()),
    ],
)
def test_rows_come_in_the_groups_that_were_asked_for(shop, client, query, groups):
    answer = ok(client.get(f"{DAILY}?{RANGE}&{query}"))
    assert {(row["currency"], row["gateway"]) for row in answer["data"]} == groups


def test_a_summary_adds_up_what_can_be_added_and_compares(shop, client):
    answer = ok(client.get(f"{SUMMARY}?from=2026-03-11&to=2026-03-11"))
    assert answer["current"]["volume"] == {"EUR": "0.95"}
    assert (answer["current"]["accepted"], answer["current"]["open"]) == (2, 1)
    assert answer["previous"]["volume"] == {"EUR": "10.50", "JPY": "100"}
    assert answer["previous"]["seconds"]["mean"] == 2.0
    whole = ok(client.get(f"{SUMMARY}?{RANGE}"))["current"]
    assert (whole["succeeded"], whole["failed"], whole["failure_reasons"]) == (3, 1, {"expired_card": 1})


def test_an_unchanged_answer_is_not_sent_twice(shop, client):
    first = client.get(f"{DAILY}?{RANGE}")
    again = client.get(f"{DAILY}?{RANGE}", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    with transaction.atomic():
        pay(shop, NOON)
    compute()
    changed = client.get(f"{DAILY}?{RANGE}", headers={"If-None-Match": first["ETag"]})
    assert ok(changed)["data"] != first.json()["data"]
    assert changed["ETag"] != first["ETag"]


def test_whoever_asks_conditionally_is_told_as_the_standard_has_it(shop, client):
    """RFC 9110, 13.1.2: lists, weak tags and `*`; and neither 304 nor HEAD has a body."""
    etag = client.get(f"{DAILY}?{RANGE}")["ETag"]
    for tags in (f'"other", {etag}', f"W/{etag}", "*"):
        response = client.get(f"{DAILY}?{RANGE}", headers={"If-None-Match": tags})
        assert (response.status_code, response.content) == (304, b""), tags
        assert response["Cache-Control"] == "private, no-cache"
    head = client.head(f"{DAILY}?{RANGE}")
    assert (head.status_code, head["ETag"]) == (200, etag)
    assert client.get(f"{DAILY}?{RANGE}", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get(f"{SUMMARY}?{RANGE}", headers={"If-None-Match": etag}).status_code == 200


def test_without_a_range_the_last_thirty_days_are_told(shop, client):
    with time_machine.travel(datetime(2026, 4, 8, 9, tzinfo=UTC), tick=False):
        answer = ok(client.get(DAILY))
        assert (answer["from"], answer["to"]) == ("2026-03-10", "2026-04-08")
        assert len(answer["data"]) == 3
        assert ok(client.get(f"{SUMMARY}?from=2026-04-01"))["to"] == "2026-04-08"


def test_a_merchant_without_payments_gets_an_empty_answer(transactional_db, client):
    assert ok(client.get(f"{DAILY}?{RANGE}"))["data"] == []
    answer = ok(client.get(f"{SUMMARY}?{RANGE}"))
    assert (answer["computed_at"], answer["current"]["accepted"]) == (None, 0)
    assert answer["current"]["success_rate"] is None


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from=2026-03-02&to=2026-03-01", "from"),
        ("from=2026-02-30", "from"),
        ("to=tomorrow", "to"),
        ("from=2999-01-01", "from"),
        ("from=2024-01-01&to=2026-01-01", "from"),
        ("from=0001-01-01&to=0001-01-02x", "to"),
        ("currency=XXX", "currency"),
        ("currency=eur", "currency"),
        ("group_by=hour", "group_by"),
        ("since=2026-01-01", "since"),
        ("gateway=%00", "gateway"),
        ("from=0001-01-01&to=0001-01-02", "from"),
        ("to=1999-12-31", "to"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(transactional_db, client, query, parameter):
    assert parameter in faults(client.get(f"{DAILY}?{query}"))


@pytest.mark.parametrize("query", ["from=2000-01-01&to=2000-01-02", "to=2000-01-01", "from=2026-03-01&to=2026-12-31"])
def test_days_at_the_edges_of_the_calendar_break_nothing(transactional_db, client, query):
    ok(client.get(f"{SUMMARY}?{query}"))
    ok(client.get(f"{DAILY}?{query}"))


@pytest.mark.django_db
def test_a_key_without_the_scope_sees_nothing(merchant):
    stranger = client_for(merchant, scopes=[Scope.PAYMENTS_READ])
    assert stranger.get(DAILY).status_code == 403
    assert stranger.get(SUMMARY).status_code == 403


@pytest.mark.parametrize("address", [DAILY, SUMMARY])
@pytest.mark.parametrize(
    ("zone", "hour", "today"),
    [
        ("UTC", 4, "2026-12-01"),
        ("UTC", 12, "2026-12-01"),
        ("UTC", 23, "2026-12-01"),
        ("Europe/Berlin", 23, "2026-12-02"),
        ("America/Los_Angeles", 4, "2026-11-30"),
        ("America/Los_Angeles", 23, "2026-12-01"),
        ("Pacific/Kiritimati", 12, "2026-12-02"),
        ("CET", 23, "2026-12-02"),
        ("Mars/Olympus", 23, "2026-12-01"),
    ],
)
def test_without_to_the_last_day_is_today_in_the_merchants_zone(client, merchant, address, zone, hour, today):
    type(merchant).objects.filter(pk=merchant.pk).update(time_zone=zone)
    with time_machine.travel(datetime(2026, 12, 1, hour, tzinfo=UTC), tick=False):
        answer = ok(client.get(address))
        assert (answer["to"], answer["time_zone"]) == (today, zone)
        assert (date.fromisoformat(answer["to"]) - date.fromisoformat(answer["from"])).days == 29
        tomorrow = ok(client.get(f"{address}?from=2026-12-02")) if hour > 10 else None
    assert tomorrow is None or (tomorrow["from"], tomorrow["to"]) == ("2026-12-02", "2026-12-02")
