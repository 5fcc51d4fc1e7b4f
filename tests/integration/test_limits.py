"""Limits of how often somebody may ask: exact, told to the client, and never a reason for an outage."""

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone

from console import health
from console.doctor import limits as doctor_limits
from merchants import api_keys, counters, limits, redis_buckets
from merchants.addresses import client_network
from merchants.counters import PostgresCounters
from merchants.fuse import LOG_EVERY, PAUSE, WITHOUT_COUNTER, Fuse, redis_fuse
from merchants.local_buckets import MOST, LocalBuckets
from merchants.models import Bucket, Counter, Membership, Mode, Role, User
from tests.counting import by_redis
from tests.database_faults import read_only_database

#: See tests/doors.py.
BOTH_DOORS = True

NOBODY_LISTENS = "redis://127.0.0.1:9/0"
POLICY = re.compile(r'"reads";q=(\d+);w=(\d+)')
STATE = re.compile(r'"reads";r=(\d+);t=(\d+)')


@pytest.fixture
def low(settings):
    """Limits that a test can reach."""

    def set_(**figures):
        settings.LIMITS = {**settings.LIMITS, **figures}

    return set_


def request_from(address="192.0.2.1", **meta):
    return RequestFactory().get("/", REMOTE_ADDR=address, **meta)


# --- exact


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("processes", ["one", "many"])
def test_of_1000_requests_at_once_exactly_100_pass(counter, low, monkeypatch, processes):
    low(reads="100/m")
    if processes == "many":  # whose requests are not counted together
        monkeypatch.setattr(counters.waiting, "ask", counters.waiting.alone)

    def ask(_):
        try:
            return limits.count(request_from(), "reads", f"whoever-{counter}-{processes}").exceeded
        finally:
            connection.close()

    with time_machine.travel(1_900_000_000, tick=False), ThreadPoolExecutor(20) as pool:
        exceeded = list(pool.map(ask, range(1000)))
    assert exceeded.count(False) == 100


def test_a_count_costs_no_second_round_trip(db, low, django_assert_num_queries):
    low(reads="3/m")
    for _ in range(4):
        with django_assert_num_queries(1):
            usage = limits.count(request_from(), "reads", "whoever")
    assert usage.exceeded
    assert usage.remaining == 0


def test_a_window_that_is_over_is_never_held_against_anybody(db, counter, low):
    low(reads="1/m")
    with time_machine.travel(1_900_000_000, tick=False) as clock:
        assert not limits.count(request_from(), "reads", f"again-{counter}").exceeded
        usage = limits.count(request_from(), "reads", f"again-{counter}")
        assert usage.exceeded
        clock.shift(usage.reset - 1)
        assert limits.count(request_from(), "reads", f"again-{counter}").exceeded
        clock.shift(1)
        assert not limits.count(request_from(), "reads", f"again-{counter}").exceeded


def test_a_counter_that_was_waited_for_never_tells_of_a_time_that_has_passed(db, low, monkeypatch):
    low(reads="1/m")
    with time_machine.travel(1_900_000_000, tick=False) as clock:
        count = PostgresCounters.add
        monkeypatch.setattr(PostgresCounters, "add", lambda *given: (clock.shift(70), count(*given))[1])
        assert limits.count(request_from(), "reads", "waited").reset == 1


def test_what_has_expired_counts_from_anew_in_the_same_statement(db):
    backend = caches["counters"]
    assert backend.add("key", 1, 60)
    Counter.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert backend.get("key") is None
    assert backend.add("key", 1, 60)
    assert not backend.add("key", 1, 60)
    assert backend.incr("key") == 2
    with pytest.raises(ValueError, match="key"):
        backend.incr("key")


def test_pruning_forgets_what_has_expired_and_nothing_else(db, capsys):
    past, future = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(seconds=60)
    Counter.objects.create(key="over", count=1, expires_at=past)
    Counter.objects.create(key="running", count=1, expires_at=future)
    Bucket.objects.create(key="full", full_at=past)
    Bucket.objects.create(key="filling", full_at=future)
    call_command("prune", "--batch", "1")
    assert "Counters of limits forgotten: 2." in capsys.readouterr().out
    assert [row.key for row in Counter.objects.all()] == ["running"]
    assert [row.key for row in Bucket.objects.all()] == ["filling"]


def test_the_tables_that_count_write_no_log(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, relpersistence FROM pg_class WHERE relname IN ('merchants_counter', 'merchants_bucket')"
        )
        assert dict(cursor.fetchall()) == {"merchants_counter": "u", "merchants_bucket": "u"}


# --- told


def test_a_request_above_the_limit_is_a_429_that_says_when_to_come_again(client, counter, low):
    low(reads="2/m")
    for remaining in (1, 0):
        passed = client.get("/api/v1/payments")
        assert passed.status_code == 200
        assert POLICY.fullmatch(passed["RateLimit-Policy"]).groups() == ("2", "60")
        assert STATE.fullmatch(passed["RateLimit"])[1] == str(remaining)
    refused = client.get("/api/v1/payments")
    assert (refused.status_code, refused["Content-Type"]) == (429, "application/problem+json")
    body = refused.json()
    assert (body["code"], body["retryable"]) == ("rate_limited", True)
    assert "`reads` lets 2 requests through in 60 seconds" in body["detail"]
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert STATE.fullmatch(refused["RateLimit"]).groups() == ("0", refused["Retry-After"])
    assert refused["RateLimit-Policy"] == '"reads";q=2;w=60'


def test_writes_use_up_no_reads_and_payments_no_writes(client, post, low):
    low(reads="1/d", writes="1/d")
    endpoint = {"url": "https://example.com/hook"}
    assert post({"amount": "1.00"}).status_code == 202
    assert client.post("/api/v1/webhook-endpoints", endpoint, "application/json").status_code == 201
    assert client.post("/api/v1/webhook-endpoints", endpoint, "application/json").status_code == 429
    assert client.get("/api/v1/payments").status_code == 200
    assert client.get("/api/v1/payments").status_code == 429
    assert post({"amount": "1.00"}, key="key-2").status_code == 202


def test_one_caller_never_uses_up_the_limit_of_another(client, merchant, other_merchant, low):
    low(reads="1/d")
    others = []
    for number, (owner, mode) in enumerate([(merchant, Mode.TEST), (merchant, Mode.LIVE), (other_merchant, Mode.TEST)]):
        key = f"sk_{mode.value}_{number}-of-the-others"
        api_keys.register_key(key, merchant=owner, mode=mode, name="other")
        others.append(Client(headers={"authorization": f"Bearer {key}"}))
    assert client.get("/api/v1/payments").status_code == 200
    assert client.get("/api/v1/payments").status_code == 429
    assert [other.get("/api/v1/payments").status_code for other in others] == [200, 200, 200]


def test_a_caller_without_the_scope_is_counted_as_well(merchant, low):
    low(writes="1/d")
    api_keys.register_key("sk_test_reads-only", merchant=merchant, mode=Mode.TEST, name="reads", scopes=())
    client = Client(headers={"authorization": "Bearer sk_test_reads-only"})
    assert client.post("/api/v1/payments", {}, "application/json").status_code == 403
    low(reads="1/d")
    assert client.get("/api/v1/payments").status_code == 403
    assert client.get("/api/v1/payments").status_code == 429


# --- strangers


def test_credentials_are_not_tried_out_by_the_thousand(db, low):
    low(strangers="2/d")
    answers = [
        Client(headers={"authorization": f"Bearer sk_test_guess-{number}"}).get("/api/v1/payments")
        for number in range(4)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert answers[0]["RateLimit"].startswith('"strangers";r=1;t=')
    assert int(answers[3]["Retry-After"]) >= 1
    other = Client(REMOTE_ADDR="192.0.2.77", headers={"authorization": "Bearer sk_test_guess"})
    assert other.get("/api/v1/payments").status_code == 401


def test_a_good_credential_is_let_in_from_an_address_with_many_bad_ones(client, low):
    low(strangers="1/d")
    for _ in range(3):
        Client(headers={"authorization": "Bearer sk_test_guess"}).get("/api/v1/payments")
    assert client.get("/api/v1/payments").status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2:bbbb::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_nobody_gets_a_limit_for_each_address_of_his_network(one, other, alike):
    assert (client_network(request_from(one)) == client_network(request_from(other))) is alike


def test_a_webhook_of_a_gateway_counts_by_address(db, low):
    low(gateway_events="1/d")
    client = Client()
    sent = [client.post("/api/v1/gateways/sandbox/webhooks", b"{}", "application/json") for _ in range(2)]
    assert sent[0].status_code != 429
    assert sent[0]["RateLimit-Policy"].startswith('"gateway_events";q=1;w=86400')
    assert sent[1].status_code == 429


def test_the_document_of_the_api_is_written_once_in_each_process(db, django_assert_num_queries):
    client = Client()
    first = client.get("/api/v1/schema")
    with django_assert_num_queries(1):  # it is counted
        second = client.get("/api/v1/schema")
    assert first.content == second.content
    assert first["RateLimit-Policy"] == '"reads";q=6000;w=60'
    assert client.get("/api/v1/schema", headers={"accept": "application/json"}).json()["openapi"].startswith("3.")


# --- logins


@pytest.fixture
def member(merchant):
    user = User.objects.create_user("ada", password="correct horse battery")
    Membership.objects.create(user=user, merchant=merchant, role=Role.VIEWER)
    return user


def log_in(address, username="ada", password="wrong"):
    body = {"username": username, "password": password}
    return Client(REMOTE_ADDR=address).post("/api/v1/token", body, "application/json")


def test_passwords_are_not_tried_out_from_one_address(member, low):
    low(logins="4/d")
    assert [log_in("192.0.2.1", f"user-{number}").status_code for number in range(5)] == [401, 401, 401, 401, 429]


def test_one_name_is_not_tried_from_many_addresses(quick_passwords, member, low):
    low(logins="1/d")
    names = ["ada", "ADA", "ａｄａ", "Ada", "aDa", "adA"]
    tried = [log_in(f"192.0.2.{number}", name) for number, name in enumerate(names)]
    assert [answer.status_code for answer in tried] == [401] * 5 + [429]
    assert '"logins_by_name";q=5;w=86400' in tried[-1]["RateLimit-Policy"]
    assert log_in("192.0.2.9", "somebody else").status_code == 401


def test_the_console_takes_no_more_passwords_than_the_api(quick_passwords, member, low):
    low(logins="2/d")
    client = Client(REMOTE_ADDR="192.0.2.1")
    form = {"username": "ada", "password": "wrong"}
    tried = [client.post("/admin/login/", form) for _ in range(3)]
    assert [answer.status_code for answer in tried] == [200, 200, 429]
    assert f"Wait {tried[2]['Retry-After']} second" in tried[2].text
    others = [log_in(f"192.0.2.{number}").status_code for number in range(2, 11)]
    assert others == [401] * 8 + [429], "the name is counted at both doors together"
    assert client.get("/admin/login/").status_code == 200


# --- without the counter


@pytest.fixture
def away(settings):
    """Redis refuses."""
    by_redis(settings, NOBODY_LISTENS)


def test_reads_and_writes_go_on_without_the_counter(client, post, away, low):
    low(reads="1/d", writes="1/d", strangers="1/d")
    assert [client.get("/api/v1/payments").status_code for _ in range(3)] == [200, 200, 200]
    assert "RateLimit" not in client.get("/api/v1/payments")
    assert [Client().get("/api/v1/payments").status_code for _ in range(3)] == [401, 401, 401]
    assert post({"amount": "1.00"}).status_code == 202


def test_passwords_stay_limited_without_the_counter(member, away, low):
    low(logins="2/d")
    assert [log_in("192.0.2.1").status_code for _ in range(3)] == [401, 401, 429]


def test_payments_stay_limited_without_the_counter(post, away, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 2, 0.001
    assert [post({"amount": "1.00"}, key=f"k{number}").status_code for number in range(3)] == [202, 202, 429]
    assert post({"amount": "1.00"}, key="k0")["Idempotent-Replayed"] == "true"


def test_health_and_doctor_tell_that_nobody_counts(db, away):
    assert health.limits()["status"] == "degraded"
    (finding,) = doctor_limits.counter()
    assert "does not answer" in finding.says
    assert "REDIS_URL" in finding.mend
    assert Client().get("/health").json()["parts"]["limits"]["status"] == "degraded"


def test_health_tells_of_a_redis_that_answers_and_does_not_count(db, settings, redis):
    """A replica; one that is full says the same."""
    by_redis(settings, redis.url)
    client = redis_buckets.connected(redis.url)
    client.replicaof("127.0.0.1", 9)
    try:
        assert health.limits()["status"] == "degraded"
        (finding,) = doctor_limits.counter()
        assert "does not" in finding.says
    finally:
        client.replicaof("NO", "ONE")
    assert health.limits()["status"] == "healthy"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_takes_no_writes_is_an_outage_and_no_defect(client, post):
    with read_only_database():
        answers = [post({"amount": "1.00"}, key="again"), client.get("/api/v1/payments")]
    assert [(answer.status_code, answer.headers.get("Retry-After")) for answer in answers] == [(503, "1")] * 2
    assert post({"amount": "1.00"}, key="again").status_code == 202


def test_health_and_doctor_tell_who_counts(db, counter):
    (finding,) = doctor_limits.counter()
    assert finding.says.startswith("counted in Redis at 127.0.0.1" if counter == "redis" else "counted in PostgreSQL")
    part = Client().get("/health").json()["parts"].get("limits")
    assert part == ({"status": "healthy"} if counter == "redis" else None)


def test_a_redis_that_hangs_costs_one_request_and_not_all(db, settings, low):

    with socket.create_server(("127.0.0.1", 0)) as silent:
        by_redis(settings, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout=0.25)
        before = metric("reads")
        for _ in range(50):  # each at 0.25 s would be 12 s
            assert limits.count(request_from(), "reads", "whoever") is None
        assert redis_fuse.ask_at is not None
        assert metric("reads") == before + 50
        silent.settimeout(0.01)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def metric(limit):

    return WITHOUT_COUNTER.labels(limit)._value.get()


def test_the_fuse_lets_one_through_at_a_time_and_mends():
    now = [100.0]
    fuse = Fuse(lambda: now[0])
    assert fuse.admits()
    fuse.blow(ConnectionError("refused"))
    assert not fuse.admits()
    now[0] += PAUSE
    assert [fuse.admits(), fuse.admits()] == [True, False]
    fuse.mend()
    assert [fuse.admits(), fuse.admits()] == [True, True]


def test_an_outage_does_not_fill_the_log(monkeypatch):
    now, lines = [100.0], []
    fuse = Fuse(lambda: now[0])
    monkeypatch.setattr("merchants.fuse.log.error", lambda event, **_: lines.append(event), raising=False)
    for _ in range(11):
        fuse.blow(ConnectionError("refused"))
        now[0] += LOG_EVERY / 10
    assert lines == ["limits_without_redis"] * 2


def test_the_memory_of_one_process_is_bounded():
    buckets = LocalBuckets(lambda: 0.0)
    for number in range(MOST + 100):
        buckets.take(str(number), burst=1, interval=1.0)
    assert len(buckets.full_at) == MOST


def test_local_buckets_count_exactly_for_many_threads():
    buckets, passed, barrier = LocalBuckets(lambda: 0.0), [], threading.Barrier(8)

    def ask():
        barrier.wait()
        passed.extend(buckets.take("key", burst=100, interval=1.0)[0] for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed.count(True) == 100


def test_requests_that_are_counted_together_count_as_one_after_the_other(db):
    """Each is told what it was itself the so manieth of; another key's count is its own."""
    first, other = ("a", 1, 60), ("b", 1, 60)
    assert counters.count_together([first, other, first, first]) == [1, 1, 2, 3]
    assert counters.count_together([other, first]) == [2, 4]
    assert counters.count_together([("a", 1, 60)]) == [5]
