"""`/dead-letters` and `/dead-letter-resolutions`: for platform staff alone, and each decision once."""

import threading
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.test import Client

from console.serializers import (
    DeadLetterSerializer,
    PreviewSerializer,
    ResolutionSerializer,
    WholeDeadLetterSerializer,
)
from merchants.models import ApiKey, Membership, Role, Scope, User
from merchants.principal import STAFF_SCOPES
from messaging import resolutions
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.selections import Selection
from payments.models import IdempotencyKey, Payment
from tests.decisions import resolve
from tests.dying import fail, foreign, letter
from tests.logins import access_of
from tests.outbox import work
from tests.system import eventually

URL = "/api/v1/dead-letters"
RESOLUTIONS = "/api/v1/dead-letter-resolutions"
ALL = {"filter": {}, "reason": "the gateway is back"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def client_of(merchant):
    """A client with the token of a person."""

    def make(name, *permissions, staff=True, role=Role.VIEWER, **fields):
        user = User.objects.create_user(name, is_staff=staff, **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        membership = Membership.objects.create(user=user, merchant=merchant, role=role)
        headers = {"authorization": f"Bearer {access_of(membership)}"}
        return Client(headers=headers, raise_request_exception=False)

    return make


@pytest.fixture
def support(client_of):
    return client_of("sam", "view_deadletter", "resolve_deadletter")


def send(client, path, body, key=None, **headers):
    if key is not None:
        headers["Idempotency-Key"] = key
    return client.post(f"{URL}/{path}", body, content_type="application/json", headers=headers)


def ok(response, status=200):
    assert response.status_code == status, response.content
    return response.json()


def problem(response, status, code):
    assert response["Content-Type"] == "application/problem+json", response.content
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    return response.json()


def ids(client, **query):
    return [found["id"] for found in ok(client.get(URL, query))["results"]]


# --- who may


def addresses():
    """Method, path and body of everything."""
    yield from (("get", URL, None), ("get", f"{URL}/1", None), ("get", f"{RESOLUTIONS}/1", None))
    yield from (
        ("post", f"{URL}/preview", {"filter": {}}),
        ("post", f"{URL}/replay", ALL),
        ("post", f"{URL}/discard", ALL),
    )
    yield from (("post", f"{RESOLUTIONS}/1/stop", {}), ("post", f"{RESOLUTIONS}/1/resume", {}))


def attempt(client, method, path, body):
    send_ = getattr(client, method)
    headers = {"Idempotency-Key": str(uuid4())}
    return send_(path) if method == "get" else send_(path, body, content_type="application/json", headers=headers)


@pytest.mark.parametrize(("method", "path", "body"), list(addresses()))
def test_neither_a_merchants_key_nor_its_administrator_nor_staff_without_permission_gets_in(
    client, client_of, method, path, body
):
    letter()
    administrator = client_of("ada", "view_deadletter", "resolve_deadletter", staff=False, role=Role.ADMIN)
    for stranger in (client, administrator, client_of("nobody")):
        problem(attempt(stranger, method, path, body), 403, "forbidden")
    problem(attempt(Client(), method, path, body), 401, "unauthenticated")
    assert not Resolution.objects.exists()


def test_a_key_whose_row_claims_the_scope_does_not_get_in(client):
    ApiKey.objects.update(scopes=[*Scope.values, *STAFF_SCOPES.values()])
    problem(client.get(URL), 403, "forbidden")
    ok(client.get("/api/v1/payments"))


def test_no_key_is_given_a_scope_of_staff():
    assert not set(Scope.values) & set(STAFF_SCOPES.values())


def test_who_may_look_may_not_decide(client_of):
    viewer, row = client_of("vera", "view_deadletter"), letter()
    assert ids(viewer) == [row.pk]
    ok(send(viewer, "preview", {"filter": {}}))
    for path in ("replay", "discard"):
        problem(send(viewer, path, ALL, "key"), 403, "forbidden")
    assert DeadLetter.objects.get().state == "open"


def test_a_permission_that_is_taken_away_is_gone_at_the_next_request(support):
    User.objects.get(username="sam").user_permissions.clear()
    problem(support.get(URL), 403, "forbidden")


def test_a_superuser_may_everything(client_of):
    letter()
    ok(send(client_of("root", is_superuser=True), "replay", ALL, "key"), 202)


# --- looking


def test_the_answers_are_what_the_documentation_says(support, accept):
    row, _ = fail(accept()), foreign(b"{\xff\0")
    preview = ok(send(support, "preview", {"filter": {}}))
    resolution = ok(send(support, "replay", {"ids": [row.pk], "reason": "r"}, "key"), 202)
    listed = ok(support.get(URL))["results"]
    for serializer, answer in (
        (DeadLetterSerializer, listed[0]),
        (WholeDeadLetterSerializer, ok(support.get(f"{URL}/{row.pk}"))),
        (PreviewSerializer, preview),
        (ResolutionSerializer, resolution),
        (ResolutionSerializer, ok(support.get(f"{RESOLUTIONS}/{resolution['id']}"))),
    ):
        assert set(serializer().fields) == set(answer)


def test_a_letter_carries_all_that_was_kept_and_the_list_does_not(support, accept):
    payment = accept()
    mine, strange = fail(payment), foreign(b"{\xff\0")
    whole = ok(support.get(f"{URL}/{mine.pk}"))
    assert (whole["payment_id"], whole["payload"], whole["body"]) == (str(payment.pk), {"ids": [str(payment.pk)]}, None)
    body = ok(support.get(f"{URL}/{strange.pk}"))["body"]
    assert (b64decode(body["base64"]), body["text"], body["size"]) == (b"{\xff\0", "{\N{REPLACEMENT CHARACTER}\0", 3)
    assert not {"payload", "body", "traceback"} & set(ok(support.get(URL))["results"][0])
    problem(support.get(f"{URL}/{strange.pk + 1}"), 404, "not_found")


def test_filters_narrow_down_and_combine(support, accept):
    payment = accept()
    old, mine, strange = letter(minutes_ago=90), fail(payment), foreign()
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert ids(support) == [strange.pk, mine.pk, old.pk]
    assert ids(support, payment_id=payment.pk) == [mine.pk]
    assert ids(support, queue="payments", since=hour_ago) == [mine.pk]
    assert ids(support, actor="process_payments", before=hour_ago) == [old.pk]
    assert ids(support, cause="not_json", state="open") == [strange.pk]
    assert ids(support, state="replayed") == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("causes", "x"), ("state", "dead"), ("payment_id", "1"), ("since", "yesterday"), ("queue", "\0"),
        ("page_size", "0"),
    ],
)  # fmt: skip
def test_a_misspelt_filter_never_shows_everything(support, parameter, value):
    refusal = problem(support.get(URL, {parameter: value}), 400, "invalid_request")
    assert [fault["parameter"] for fault in refusal["errors"]] == [parameter]


def test_pages_by_cursor_show_each_letter_once(support):
    rows = [letter().pk for _ in range(5)]
    seen, page = [], ok(support.get(URL, {"page_size": 2}))
    while True:
        seen += [found["id"] for found in page["results"]]
        if not page["next"]:
            break
        rest = urlsplit(page["next"])
        page = ok(support.get(f"{rest.path}?{rest.query}"))
    assert seen == rows[::-1]


@pytest.mark.parametrize("position", ["garbage", "\0", "-1", "9" * 30, "0199f000-0000-7000-8000-000000000001"])
def test_a_cursor_that_is_not_ours_is_told_to_begin_again(support, position):
    cursor = b64encode(f"p={position}".encode()).decode()
    assert "begin again" in problem(support.get(URL, {"cursor": cursor}), 400, "invalid_request")["detail"]


@pytest.mark.parametrize("count", [1, 30])
def test_a_longer_page_costs_no_more_queries(support, django_assert_max_num_queries, count):
    for _ in range(count):
        letter()
    with django_assert_max_num_queries(6):
        assert len(ids(support)) == count


def test_the_preview_counts_and_sums_and_changes_nothing(support, accept):
    fail(accept(key="1", amount=1250)), fail(accept(key="2", amount=500, currency="JPY"))
    fail(accept(key="3", order_id="o"))
    accept(key="4", order_id="o")
    foreign(b"x" * 70_000, cause="too_large")
    preview = ok(send(support, "preview", {"filter": {}}))
    assert (preview["total"], preview["goes"], preview["settled"], preview["blocked"]) == (4, 2, 0, 2)
    assert preview["sums"] == {"EUR": "12.50", "JPY": "500"}
    assert {note["note"]: note["count"] for note in preview["notes"]} == {
        "its order has another payment under way": 1,
        "too large to have been kept whole; discard it and have it sent anew": 1,
    }
    assert [(cause["cause"], cause["total"]) for cause in preview["causes"]] == [
        ("retries_exhausted", 3),
        ("too_large", 1),
    ]
    assert not Resolution.objects.exists()
    assert not DeadLetter.objects.exclude(state="open").exists()


def test_the_selection_of_a_preview_holds_no_letter_that_dies_later(support):
    letter(), foreign()
    selection = ok(send(support, "preview", {"filter": {"queue": "payments"}}))["selection"]
    later = letter()
    assert ok(send(support, "replay", {**selection, "reason": "r"}, "key"), 202)["total"] == 1
    later.refresh_from_db()
    assert later.state == "open"


@pytest.mark.parametrize("others", [0, 1])
def test_the_selection_of_a_preview_that_found_nothing_holds_nothing(support, others):
    for _ in range(others):
        foreign()
    preview = ok(send(support, "preview", {"filter": {"queue": "payments"}}))
    assert preview["total"] == 0
    later = letter()
    assert send(support, "replay", {**preview["selection"], "reason": "r"}, "key").status_code == 409
    later.refresh_from_db()
    assert later.state == "open"


# --- deciding


def test_a_replay_goes_out_and_can_be_followed(support, accept):
    payment = accept()
    row = fail(payment)
    response = send(support, "replay", {"filter": {"payment_id": str(payment.pk)}, "reason": "gateway is back"}, "key")
    accepted = ok(response, 202)
    assert (accepted["total"], accepted["replayed"], accepted["state"]) == (1, 0, "running")
    assert (accepted["decided_by"], accepted["reason"]) == ("sam", "gateway is back")
    assert response["Location"] == accepted["links"]["self"]
    now = ok(support.get(response["Location"]))
    assert (now["state"], now["replayed"]) == ("done", 1)
    assert now["finished_at"]
    assert Payment.objects.get().status == "pending"
    assert ok(support.get(f"{URL}/{row.pk}"))["resolution"] == accepted["id"]


def test_a_discard_sends_nothing(support, accept):
    row = fail(accept())
    before = OutboxMessage.objects.count()
    ok(send(support, "discard", {"ids": [row.pk, row.pk], "reason": "r"}, "key"), 202)
    row.refresh_from_db()
    assert (row.state, OutboxMessage.objects.count()) == ("discarded", before)


def test_the_same_request_again_gets_the_same_bytes_and_decides_nothing(support):
    letter()
    first = send(support, "replay", ALL, "key")
    later = letter()
    again = send(support, "replay", {"reason": ALL["reason"], "filter": {}}, '"key"')
    assert (again.status_code, again.content, again["Location"]) == (202, first.content, first["Location"])
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Resolution.objects.count() == 1
    later.refresh_from_db()
    assert later.state == "open"


@pytest.mark.parametrize(
    ("path", "change"),
    [("replay", {"reason": "other"}), ("replay", {"rate": 5}), ("replay", {"filter": {"queue": "x"}}), ("discard", {})],
)
def test_a_key_with_another_request_is_refused(support, path, change):
    letter()
    ok(send(support, "replay", ALL, "key"), 202)
    problem(send(support, path, {**ALL, **change}, "key"), 422, "idempotency_key_reused")
    assert Resolution.objects.count() == 1


def test_the_key_of_a_payment_never_decides(support, accept):
    accept(key="key")
    letter()
    problem(send(support, "replay", ALL, "key"), 422, "idempotency_key_reused")
    assert not Resolution.objects.exists()


@pytest.mark.parametrize(("key", "code"), [(None, "idempotency_key_missing"), ("a b", "idempotency_key_invalid")])
def test_a_decision_without_a_key_is_refused(support, key, code):
    letter()
    problem(send(support, "replay", ALL, key), 400, code)
    assert not Resolution.objects.exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"filter": {}}, "/reason"), ({**ALL, "reason": " "}, "/reason"), ({**ALL, "reason": "x" * 501}, "/reason"),
        ({"reason": "r"}, ""), ({**ALL, "ids": [1]}, ""), ({"ids": [], "reason": "r"}, "/ids"),
        ({"ids": ["x"], "reason": "r"}, "/ids/0"), ({"ids": [2**63], "reason": "r"}, "/ids/0"),
        ({**ALL, "filter": {"queues": "x"}}, "/filter/queues"), ({**ALL, "rate": 0}, "/rate"),
        ({**ALL, "all": True}, "/all"), ({**ALL, "filter": {"since": "0001-01-01T00:00:00+14:00"}}, "/filter/since"),
        ({**ALL, "filter": {"cause": ""}}, "/filter/cause"), ({**ALL, "filter": None}, "/filter"),
    ],
)  # fmt: skip
def test_a_request_that_could_be_misunderstood_is_refused_by_name(support, body, pointer):
    letter()
    refusal = problem(send(support, "replay", body, "key"), 400, "invalid_request")
    assert [fault["pointer"] for fault in refusal["errors"]] == [pointer]
    assert not Resolution.objects.exists()
    assert not IdempotencyKey.objects.exists()


def test_nothing_to_resolve_is_said_and_leaves_no_record_and_the_key_may_be_used_again(support):
    problem(send(support, "replay", ALL, "key"), 409, "nothing_to_resolve")
    assert not Resolution.objects.exists()
    assert not IdempotencyKey.objects.exists()
    letter()
    ok(send(support, "replay", ALL, "key"), 202)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [["same", "same"], ["one", "two"]])
def test_two_staff_who_replay_the_same_at_once_act_once(client_of, accept, keys):
    for number in range(5):
        fail(accept(key=f"key-{number}"))
    people = [client_of(name, "view_deadletter", "resolve_deadletter") for name in ("ada", "bob")]
    together = threading.Barrier(2)

    def one(number):
        try:
            together.wait(10)
            return send(people[number], "replay", ALL, keys[number])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, range(2)))
    resolution = Resolution.objects.get()
    assert (resolution.total, resolution.replayed) == (5, 5)
    assert work().filter(options__has_key="replay_of").count() == 5
    expected = [202, 202] if keys[0] == keys[1] else [202, 409]
    assert sorted(answer.status_code for answer in answers) == expected
    if expected == [202, 202]:
        assert answers[0].content == answers[1].content


@pytest.mark.django_db(transaction=True)
def test_a_decision_waits_for_the_one_that_is_being_made_and_takes_none_of_its_letters():
    letter()

    def second():
        try:
            return resolve(Selection(), Resolution.Action.DISCARD, reason="r", by="second")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first = resolutions.decide(Selection(), Resolution.Action.REPLAY, reason="r", by="first")
            waiting = pool.submit(second)
            eventually(somebody_waits, within=10, what="the second decision waits")
        assert (first.total, waiting.result(10).total) == (1, 0)
    assert DeadLetter.objects.get().resolution == first


def somebody_waits():
    """Whether another session waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees the sessions of its first look
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_stop_and_resume_can_be_repeated(support):
    for _ in range(3):
        letter()
    made = ok(send(support, "replay", {**ALL, "rate": 1}, "key"), 202)
    url = f"{RESOLUTIONS}/{made['id']}"
    assert ok(support.get(url))["replayed"] == 1
    for _ in range(2):
        assert ok(support.post(f"{url}/stop"))["state"] == "stopped"
    for _ in range(2):
        assert ok(support.post(f"{url}/resume/"))["state"] == "running"
    while resolutions.work_off(made["id"]):
        pass
    assert ok(support.post(f"{url}/stop"))["state"] == "done"
    for missing in ("", "/stop", "/resume"):
        method = support.post if missing else support.get
        problem(method(f"{RESOLUTIONS}/{made['id'] + 1}{missing}"), 404, "not_found")


def test_what_a_running_resolution_has_is_never_counted_twice(support):
    for _ in range(3):
        letter()
    first = ok(send(support, "replay", {**ALL, "rate": 1}, "key"), 202)
    letter()
    preview = ok(send(support, "preview", {"filter": {}}))
    assert (preview["total"], preview["in_hand"]) == (1, 2)
    assert ok(send(support, "discard", ALL, "other"), 202)["total"] == 1
    assert first["total"] == 3


def test_a_key_of_a_decision_is_forgotten_with_the_others(support):
    letter()
    ok(send(support, "replay", ALL, "key"), 202)
    IdempotencyKey.objects.update(created_at=Now() - timedelta(days=29))
    call_command("prune", verbosity=0)
    assert IdempotencyKey.objects.exists()
    IdempotencyKey.objects.update(created_at=Now() - timedelta(days=31))
    call_command("prune", verbosity=0)
    assert not IdempotencyKey.objects.exists()


def test_a_decision_takes_the_letters_of_a_stopped_one_and_none_of_a_running_one():
    row = letter()
    first = resolve(Selection(), Resolution.Action.REPLAY, reason="r", by="b")
    assert not resolve(Selection(), Resolution.Action.DISCARD, reason="r", by="b").total
    resolutions.stop(first.pk, by="b")
    assert resolve(Selection(), Resolution.Action.DISCARD, reason="r", by="b").total == 1
    row.refresh_from_db()
    assert row.resolution != first
