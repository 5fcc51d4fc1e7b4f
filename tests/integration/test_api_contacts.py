"""`/contacts`: how payers are reached, by whatever the merchant calls them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest
from django.conf import settings as django_settings
from django.db import connections

from merchants.models import Mode, Scope
from notifications.models import Contact
from notifications.people_serializers import ContactSerializer
from tests.log_lines import LogLines
from tests.notifying import client_for

URL = "/api/v1/contacts"
MAX = {"email": "max@example.com", "phone": "+4915123456789", "language": "de"}

pytestmark = pytest.mark.django_db


def address(user_id):
    return f"{URL}/{quote(user_id, safe='')}"


def put(client, user_id, body, suffix=""):
    return client.put(f"{address(user_id)}{suffix}", body, content_type="application/json")


def ok(response, status=200):
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def problem(response, status, code):
    assert response["Content-Type"] == "application/problem+json", response.content
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    return response.json()


def test_a_contact_is_made_replaced_and_forgotten(client):
    response = put(client, "user-7", MAX)
    made = ok(response, 201)
    assert made | MAX == made
    assert response["Location"] == made["links"]["self"] == f"{URL}/user-7"
    assert list(made) == list(ContactSerializer().fields)
    assert ok(client.get(response["Location"])) == made
    replaced = ok(put(client, "user-7", {"email": "new@example.com"}))
    assert [replaced[name] for name in MAX] == ["new@example.com", None, None]
    ok(client.delete(response["Location"]), 204)
    problem(client.get(response["Location"]), 404, "not_found")
    problem(client.delete(response["Location"]), 404, "not_found")


@pytest.mark.parametrize(
    "user_id",
    [
        "a/b", "/a", "a//b", "..", ".", "../payments", "Jörg Müller", "用户", "a@b.example", "a?b#c", "%2F", "a+b",
        "🐘", "x" * 255, "deliveries/1",
    ],
)  # fmt: skip
def test_no_name_of_a_payer_is_too_odd(client, user_id):
    ok(put(client, user_id, MAX), 201)
    assert Contact.objects.get().user_id == user_id
    shown = ok(client.get(address(user_id)))
    assert shown["user_id"] == user_id
    assert ok(client.get(shown["links"]["self"])) == shown
    ok(client.delete(address(user_id)), 204)
    assert not Contact.objects.exists()


def test_a_slash_at_the_end_of_a_name_needs_that_of_the_address_behind_it(client):
    ok(put(client, "a/", MAX, suffix="/"), 201)
    assert Contact.objects.get().user_id == "a/"
    [shown] = ok(client.get(URL))["results"]
    assert ok(client.get(shown["links"]["self"]))["user_id"] == "a/"
    problem(client.get(f"{URL}/a/"), 404, "not_found")


@pytest.mark.parametrize("user_id", ["x" * 256, " ", "a\0b", " a"], ids=["long", "blank", "nul", "space"])
def test_what_no_payment_could_have_as_a_payer_is_no_contact(client, user_id):
    assert problem(put(client, user_id, MAX), 400, "invalid_request")["errors"][0]["pointer"] == "/user_id"
    problem(client.get(address(user_id)), 404, "not_found")
    problem(client.delete(address(user_id)), 404, "not_found")
    assert not Contact.objects.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"email": "max"}, "invalid"),
        ({"email": f"{'x' * 250}@example.com"}, "max_length"),
        ({"phone": "0151 23456789"}, "phone"),
        ({"phone": "+491"}, "phone"),
        ({"language": "tlh"}, "invalid_choice"),
        ({"user_id": "user-7"}, "unknown_field"),
        ({"adress": "x"}, "unknown_field"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_is_malformed_is_named_and_nothing_kept(client, body, code):
    faults = problem(put(client, "user-7", body), 400, "invalid_request")["errors"]
    assert (f"/{next(iter(body))}", code) in [(fault["pointer"], fault["code"]) for fault in faults]
    assert not Contact.objects.exists()


@pytest.mark.parametrize("nothing", [None, ""], ids=["null", "empty"])
def test_null_and_empty_mean_nothing_is_known(client, nothing):
    ok(put(client, "user-7", MAX), 201)
    left = ok(put(client, "user-7", dict.fromkeys(MAX, nothing)))
    assert [left[name] for name in MAX] == [None] * 3


def test_nobody_reaches_another_merchants_payers_nor_those_of_the_other_mode(client, merchant, other_merchant):
    ok(put(client, "user-7", MAX), 201)
    for stranger in (client_for(other_merchant), client_for(merchant, Mode.LIVE)):
        problem(stranger.get(address("user-7")), 404, "not_found")
        problem(stranger.delete(address("user-7")), 404, "not_found")
        assert ok(stranger.get(URL))["results"] == []
        ok(put(stranger, "user-7", {"email": "other@example.com"}), 201)
    assert ok(client.get(address("user-7")))["email"] == MAX["email"]


def test_a_key_without_the_scope_gets_and_changes_nothing(merchant):
    reader = client_for(merchant, scopes=[Scope.NOTIFICATIONS_READ])
    writer = client_for(merchant, scopes=[Scope.NOTIFICATIONS_WRITE])
    problem(put(reader, "user-7", MAX), 403, "forbidden")
    ok(put(writer, "user-7", MAX), 201)
    ok(reader.get(address("user-7")))
    problem(reader.delete(address("user-7")), 403, "forbidden")
    for path in (URL, address("user-7")):
        problem(writer.get(path), 403, "forbidden")


def test_the_list_is_newest_first_by_cursor(client):
    for number in range(5):
        ok(put(client, f"user-{number}", MAX), 201)
    page = ok(client.get(URL, {"page_size": 2}))
    shown = [found["user_id"] for found in page["results"]]
    while page["next"]:
        rest = urlsplit(page["next"])
        page = ok(client.get(f"{rest.path}?{rest.query}"))
        shown += [found["user_id"] for found in page["results"]]
    assert shown == [f"user-{number}" for number in (4, 3, 2, 1, 0)]
    problem(client.get(URL, {"email": "max@example.com"}), 400, "invalid_request")


@pytest.mark.django_db(transaction=True)
def test_twins_make_one_contact(client):
    together = threading.Barrier(8)

    def one(number):
        try:
            together.wait(10)
            return put(client, "user-7", {"email": f"max{number}@example.com"}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert sorted(answers) == [200] * 7 + [201]
    assert Contact.objects.count() == 1


@pytest.fixture
def lines():
    """What is logged, as in production."""
    texts = []
    heard = LogLines(lambda _logger, line: texts.append(line), styles=["json"])
    heard.attach()
    yield texts
    heard.detach()


def test_the_name_of_a_payer_is_never_logged(client, lines):
    assert django_settings.LOGGING["loggers"]["django.request"]["filters"]
    canary = "canary7@example.com"
    for suffix in ("", "/", "%2Fx"):
        client.get(f"{address(canary)}{suffix}")  # 404, of which Django tells as well
        put(client, canary, {"email": "no"}, suffix)
        put(client, canary, MAX, suffix)
    told = "\n".join(lines)
    assert "/api/v1/contacts/" in told
    assert "Not Found" in told
    assert "canary7" not in told
