"""The token bucket of payment creation: exact, by one statement, and free for whoever repeats himself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import F

from merchants import buckets, redis_buckets
from merchants.local_buckets import LocalBuckets
from merchants.models import Bucket, Mode
from payments.models import IdempotencyKey, Payment
from tests.counting import by_redis

#: See tests/doors.py.
BOTH_DOORS = True


@pytest.fixture
def small(settings):
    """A bucket that a test can empty; what is taken comes back after a quarter of an hour."""
    settings.CREATION_BURST, settings.CREATION_RATE = 3, 0.001


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("processes", ["one", "many"])
def test_of_1000_requests_at_once_exactly_100_get_a_token(counter, merchant, settings, monkeypatch, processes):
    settings.CREATION_BURST, settings.CREATION_RATE = 100, 0.001
    if processes == "many":  # whose requests do not ask together
        monkeypatch.setattr(buckets.waiting, "ask", buckets.waiting.alone)

    def ask(_):
        try:
            return buckets.take(merchant, Mode.TEST).granted
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, range(1000))).count(True) == 100


@pytest.mark.parametrize("number", [2, 3, 4, 10])
def test_tokens_asked_for_together_are_as_many_as_one_by_one_and_each_ticket_tells_its_own(
    counter, merchant, settings, number
):
    settings.CREATION_BURST, settings.CREATION_RATE = 4, 0.001
    buckets.take(merchant, Mode.TEST)
    bucket = (f"{merchant.pk}:test", 4, 1_000_000_000)
    answers = buckets.take_together([bucket] * number)
    if number <= 3:
        filled = [until_full for ((_, until_full),) in answers]
        assert filled == pytest.approx([2000, 3000, 4000][:number], abs=500), "each tells of its own token"
        assert all(granted for ((granted, _),) in answers)
    else:  # not enough for all: each asks by itself
        assert answers == [None] * number
    left = [buckets.take(merchant, Mode.TEST).granted for _ in range(4)].count(True)
    assert left == (3 - number if number <= 3 else 3)


def test_tokens_of_several_buckets_are_asked_for_together(counter, merchant, other_merchant):
    asked = [(f"{owner.pk}:test", 2, 1_000_000_000) for owner in (merchant, other_merchant, merchant, merchant)]
    answers = buckets.take_together(asked)
    assert [answer is None for answer in answers] == [True, False, True, True]
    assert answers[1][0][0]


def test_a_bucket_of_other_figures_is_looked_at_token_by_token(counter, merchant, small):
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(3)] == [True] * 3
    assert buckets.take_together([(f"{merchant.pk}:test", 5, 10_000_000)] * 2) == [None, None]


def test_the_ticket_tells_what_is_left_and_how_long_to_wait(counter, merchant, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 3, 0.001
    tickets = [buckets.take(merchant, Mode.TEST) for _ in range(4)]
    assert [ticket.granted for ticket in tickets] == [True, True, True, False]
    assert [ticket.remaining for ticket in tickets] == [2, 1, 0, 0]
    assert tickets[0].retry_after == 1
    assert 500 < tickets[3].retry_after <= 1000
    assert 2500 < tickets[3].fills_in <= 3000


def test_a_token_comes_back_with_time(db, merchant, small):
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(4)].count(True) == 3
    Bucket.objects.update(full_at=F("full_at") - timedelta(seconds=1000))
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(2)] == [True, False]


def test_a_long_rest_fills_the_bucket_and_no_more(db, merchant, small):
    buckets.take(merchant, Mode.TEST)
    Bucket.objects.update(full_at=F("full_at") - timedelta(days=30))
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(4)].count(True) == 3


@pytest.mark.parametrize("rate", [1 / 6, 3.0, 7.0, 70_000.0])
def test_an_interval_of_no_whole_microseconds_costs_no_token(counter, merchant, settings, rate):
    settings.CREATION_BURST, settings.CREATION_RATE = 6, rate
    assert all(buckets.take(merchant, Mode.TEST).granted for _ in range(6))


def test_what_is_given_back_can_be_taken_again(counter, merchant, small):
    tickets = [buckets.take(merchant, Mode.TEST) for _ in range(3)]
    buckets.give_back(tickets[0])
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(2)] == [True, False]


def test_modes_and_merchants_have_buckets_of_their_own(counter, merchant, other_merchant, settings):
    settings.CREATION_BURST = 1
    settings.CREATION_RATE = 0.001
    for owner, mode in [(merchant, Mode.TEST), (merchant, Mode.LIVE), (other_merchant, Mode.TEST)]:
        assert buckets.take(owner, mode).granted
        assert not buckets.take(owner, mode).granted


def test_a_merchant_has_figures_of_its_own(db, merchant, settings):
    settings.CREATION_BURST, settings.CREATION_RATE = 1, 0.001
    merchant.creation_burst, merchant.creation_rate = 2, 0.002
    tickets = [buckets.take(merchant, Mode.TEST) for _ in range(3)]
    assert [ticket.granted for ticket in tickets] == [True, True, False]
    assert 250 < tickets[2].retry_after <= 500


def test_a_merchant_whose_figures_were_raised_never_waits_by_the_old_ones(counter, merchant, small):
    assert [buckets.take(merchant, Mode.TEST).granted for _ in range(4)].count(True) == 3
    merchant.creation_burst, merchant.creation_rate = 5, 0.01  # the old bucket would be full in 50 minutes
    tickets = [buckets.take(merchant, Mode.TEST) for _ in range(2)]
    assert [ticket.granted for ticket in tickets] == [True, False]
    assert tickets[1].retry_after <= 100


def test_a_clock_that_was_set_back_keeps_no_merchant_waiting(counter, merchant, small, request):
    """An hour of the wrong time would be an hour without payments."""
    ticket = buckets.take(merchant, Mode.TEST)
    if counter == "redis":
        client = redis_buckets.connected(request.getfixturevalue("redis").url)
        client.incrby(f"bucket:{ticket.key}", 3_600_000_000)
    else:
        Bucket.objects.update(full_at=F("full_at") + timedelta(hours=1))
    tickets = [buckets.take(merchant, Mode.TEST) for _ in range(2)]
    assert [ticket.granted for ticket in tickets] == [True, False], "of an empty bucket, no more"
    assert tickets[1].retry_after <= 1000


def test_a_token_costs_one_statement_and_a_refusal_two(db, merchant, small, django_assert_num_queries):
    for _ in range(3):
        with django_assert_num_queries(1):
            buckets.take(merchant, Mode.TEST)
    with django_assert_num_queries(2):
        buckets.take(merchant, Mode.TEST)


def test_redis_forgets_a_full_bucket_by_itself(merchant, settings, redis):
    by_redis(settings, redis.url)
    settings.CREATION_BURST, settings.CREATION_RATE = 10, 0.001
    ticket = buckets.take(merchant, Mode.TEST)
    assert 0 < redis_buckets.connected(redis.url).pttl(f"bucket:{ticket.key}") <= 1_000_002


def test_a_local_bucket_counts_like_the_shared_ones():
    now = [0.0]
    local = LocalBuckets(lambda: now[0])
    assert [local.take("key", burst=2, interval=10.0) for _ in range(3)] == [(True, 10.0), (True, 20.0), (False, 20.0)]
    now[0] = 10.0
    assert [local.take("key", burst=2, interval=10.0)[0] for _ in range(2)] == [True, False]
    local.give_back("key", interval=10.0)
    assert local.take("key", burst=2, interval=10.0)[0]
    assert [local.take("key", burst=2, interval=1.0)[0] for _ in range(2)] == [True, False], "by new figures"


# --- payments


def test_payments_beyond_the_bucket_are_refused_and_nothing_is_stored(post, counter, small):
    answers = [post({"amount": "1.00"}, key=f"key-{number}") for number in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    body = answers[3].json()
    assert (body["code"], body["retryable"]) == ("rate_limited_creation", True)
    assert 900 < int(answers[3]["Retry-After"]) <= 1000
    assert answers[2]["RateLimit"].startswith('"creation";r=0;t=')
    assert answers[3]["RateLimit"] == f'"creation";r=0;t={answers[3]["Retry-After"]}'
    assert answers[3]["RateLimit-Policy"] == '"creation";q=3;w=3000'
    assert Payment.objects.count() == 3
    assert not IdempotencyKey.objects.filter(key="key-3").exists()


def test_a_repetition_is_answered_when_the_bucket_is_empty_and_costs_nothing(post, counter, small):
    first = post({"amount": "1.00"}, key="key-0")
    for _ in range(5):
        assert post({"amount": "1.00"}, key="key-0").content == first.content
    assert [post({"amount": "1.00"}, key=f"key-{number}").status_code for number in (1, 2, 3)] == [202, 202, 429]
    again = post({"amount": "1.00"}, key="key-0")
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (202, "true")


@pytest.mark.django_db(transaction=True)
def test_a_token_that_cannot_be_returned_hides_no_answer(post, small, monkeypatch):
    first = post({"amount": "1.00"}, key="key-0")
    monkeypatch.setattr(buckets, "GIVE_BACK", "SELECT %(key)s::int + %(interval)s")
    again = post({"amount": "1.00"}, key="key-0")
    assert (again.status_code, again.content) == (202, first.content)


def test_a_refused_payment_goes_through_with_the_same_key_later(post, small):
    refused = [post({"amount": "1.00"}, key=f"key-{number}") for number in range(4)][3]
    assert refused.status_code == 429
    Bucket.objects.update(full_at=F("full_at") - timedelta(seconds=1000))
    assert post({"amount": "1.00"}, key="key-3").status_code == 202


def test_requests_that_are_wrong_use_up_the_bucket_too(post, small):
    assert [post({"amount": "nonsense"}, key=f"key-{number}").status_code for number in range(3)] == [400, 400, 400]
    assert post({"amount": "1.00"}, key="key-9").status_code == 429


def test_a_key_that_is_reused_is_told_so_when_the_bucket_is_empty(post, small):
    for number in range(3):
        post({"amount": "1.00"}, key=f"key-{number}")
    assert post({"amount": "2.00"}, key="key-0").status_code == 422


# --- ceilings


@pytest.mark.parametrize("ceilings", [[1], {"EUR": 5000}, {"EUR": "a lot"}, {"eur": "1.00"}, {"EUR": "NaN"}, "5000"])
def test_a_ceiling_that_could_not_be_compared_is_refused_where_it_is_set(merchant, ceilings):
    merchant.amount_ceilings = ceilings
    with pytest.raises(ValidationError, match="quotes"):
        merchant.full_clean()


@pytest.mark.parametrize(
    ("amount", "currency", "status"),
    [("5000.00", "EUR", 202), ("5000.01", "EUR", 400), (5001, "EUR", 400), ("9000.00", "USD", 202), (100, "JPY", 400)],
)
def test_no_payment_is_above_the_ceiling_of_its_merchant(post, merchant, amount, currency, status):
    merchant.amount_ceilings = {"EUR": "5000.00", "JPY": "99"}
    merchant.save()
    answer = post({"amount": amount, "currency": currency})
    assert answer.status_code == status
    if status == 400:
        (fault,) = answer.json()["errors"]
        assert (fault["pointer"], fault["code"]) == ("/amount", "above_ceiling")
        assert f"{merchant.amount_ceilings[currency]} {currency}" in fault["detail"]
        assert not Payment.objects.exists()


def test_what_was_accepted_is_repeated_though_the_ceiling_was_lowered_since(post, merchant):
    first = post({"amount": "5000.00"}, key="key-1")
    merchant.amount_ceilings = {"EUR": "10.00"}
    merchant.save()
    again = post({"amount": "5000.00"}, key="key-1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert post({"amount": "5000.00"}, key="key-2").json()["code"] == "above_ceiling"


def test_a_merchant_that_was_made_by_plain_sql_has_no_ceilings(merchant):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE merchants_merchant SET amount_ceilings = DEFAULT")
    merchant.refresh_from_db()
    assert merchant.amount_ceilings == {}
