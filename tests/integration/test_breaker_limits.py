"""The boundaries of the breaker: at which count, rate and instant it opens, probes and closes."""

import os
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from payments import breaker, release
from payments.breaker import Limits, State, state_of
from payments.models import GatewayCircuit, Payment
from payments.states import Status
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
TICK = timedelta(microseconds=1)
LEASE = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("open_until", "expected"),
    [(None, State.IN_ORDER), (NOW + TICK, State.OPEN), (NOW, State.HALF_OPEN), (NOW - TICK, State.HALF_OPEN)],
)
def test_the_breaker_is_half_open_from_the_instant_at_which_its_time_ends(open_until, expected):
    assert state_of(GatewayCircuit(open_until=open_until), now=NOW) is expected
    assert state_of(GatewayCircuit(open_until=open_until, paused_at=NOW), now=NOW) is State.PAUSED


def circuit(**values):
    return GatewayCircuit.objects.create(**{"gateway": "sandbox", "pause_reason": "", "paused_by": "", **values})


@pytest.mark.parametrize(
    ("probing_until", "admitted"),
    [(None, True), (NOW - TICK, True), (NOW, True), (NOW + TICK, False)],
)
def test_one_call_probes_until_its_lease_ends(probing_until, admitted):
    made = circuit(open_until=NOW - timedelta(seconds=5), openings=1, probing_until=probing_until)
    admission = breaker.admit("sandbox", lease=LEASE, now=NOW)
    assert (admission.admitted, admission.probe) == (admitted, admitted)
    made.refresh_from_db()
    assert made.probing_until == (NOW + LEASE if admitted else probing_until)
    if not admitted:
        assert (admission.code, admission.until) == ("gateway_unavailable", probing_until)


def test_an_open_breaker_admits_nothing_until_its_time_ends():
    circuit(open_until=NOW + LEASE, openings=1)
    admission = breaker.admit("sandbox", lease=LEASE, now=NOW)
    assert (admission.admitted, admission.until, admission.code) == (False, NOW + LEASE, "gateway_unavailable")


def test_another_gateways_breaker_is_not_asked():
    circuit(gateway="other", open_until=NOW + LEASE, openings=1)
    assert breaker.admit("sandbox", lease=LEASE, now=NOW) == breaker.FREE


@pytest.mark.parametrize(
    "meanwhile",
    [
        "open_until = now() + interval '1 hour'",
        "paused_at = now(), pause_reason = 'maintenance'",
        "probing_until = now() + interval '1 hour'",
    ],
)
def test_no_call_probes_where_the_breaker_changed_since_it_was_read(meanwhile):
    """Another worker has reopened it, staff have paused it, or another call probes by now."""
    circuit(open_until=NOW - timedelta(seconds=5), openings=1)

    def change_first(execute, statement, *rest):
        if statement.startswith("UPDATE"):
            database = connection.settings_dict["NAME"]
            url = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database}"
            with psycopg.connect(url, autocommit=True) as other:
                other.execute(f"UPDATE payments_gatewaycircuit SET {meanwhile}")
        return execute(statement, *rest)

    with connection.execute_wrapper(change_first):
        assert not breaker.admit("sandbox", lease=LEASE, now=NOW).admitted


LIMITS = Limits(window=30.0, min_calls=4, failure_rate=0.5, open_for=10.0)


def attempts(accept, *outcomes, age=timedelta(seconds=1)):
    for number, outcome in enumerate(outcomes):
        payment = accept(key=f"key-{number}-{outcome}")
        finished = None if outcome == "" else Now() - age
        payment.attempts.create(
            kind="charge", gateway_key="k", fence=1, started_at=Now(), outcome=outcome, finished_at=finished
        )


def is_opened():
    breaker.note_failure("sandbox", LIMITS, probe=False)
    return GatewayCircuit.objects.filter(open_until__isnull=False).exists()


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        (["unavailable"] * 3, False),
        (["unavailable"] * 4, True),
        (["unknown"] * 4, True),
        (["unavailable", "unknown", "approved", "declined"], True),
        (["unavailable", "approved", "approved", "declined"], False),
        (["unavailable"] * 3 + ["abandoned"], False),
        (["unavailable"] * 3 + [""], False),
    ],
)
def test_it_opens_at_the_smallest_number_of_calls_and_at_half_of_them(accept, outcomes, opens):
    attempts(accept, *outcomes)
    assert is_opened() is opens


def test_a_call_counts_for_the_length_of_the_window(accept):
    attempts(accept, *["unavailable"] * 4, age=timedelta(seconds=31))
    assert not is_opened()


def test_calls_before_the_breaker_closed_do_not_count(accept):
    circuit(closed_at=Now())
    attempts(accept, *["unavailable"] * 4)
    assert not is_opened()


def opening():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT open_until - statement_timestamp(), openings, probing_until FROM payments_gatewaycircuit"
        )
        lasts, openings, probing_until = cursor.fetchone()
    return round(lasts.total_seconds()), openings, probing_until


@pytest.mark.parametrize("known", [True, False])
def test_it_opens_for_its_time(accept, known):
    if known:
        circuit(openings=3)
    attempts(accept, *["unavailable"] * 4)
    assert is_opened()
    assert opening() == (10, 1, None)


def test_an_open_breaker_is_not_opened_again(accept):
    circuit(openings=3, open_until=Now() + timedelta(hours=1))
    attempts(accept, *["unavailable"] * 4)
    breaker.note_failure("sandbox", LIMITS, probe=False)
    assert opening()[:2] == (3600, 3)


@pytest.mark.parametrize(("openings", "seconds"), [(1, 20), (2, 40), (3, 60), (10, 60), (25, 60)])
def test_each_failed_probe_doubles_the_time_up_to_a_minute(openings, seconds):
    circuit(open_until=Now(), openings=openings, probing_until=Now())
    breaker.note_failure("sandbox", LIMITS, probe=True)
    assert opening() == (seconds, openings + 1, None)


def test_a_breaker_that_opens_for_longer_than_a_minute_stays_open_for_that_time():
    circuit(open_until=Now(), openings=1)
    breaker.note_failure("sandbox", Limits(window=30.0, min_calls=4, failure_rate=0.5, open_for=90.0), probe=True)
    assert opening()[0] == 90


@pytest.mark.parametrize("open_until", [Now(), None])
def test_a_probe_that_is_answered_closes_an_open_breaker_only(open_until):
    made = circuit(open_until=open_until, openings=2, probing_until=open_until)
    circuit(gateway="other", open_until=Now(), openings=2)
    breaker.note_success("sandbox")
    made.refresh_from_db()
    closed = open_until is not None
    assert (made.open_until, made.openings, made.closed_at is not None) == (None, 0 if closed else 2, closed)
    assert made.probing_until is None
    assert GatewayCircuit.objects.get(pk="other").openings == 2


def test_a_failed_probe_opens_no_breaker_that_has_closed_meanwhile():
    made = circuit(openings=0)
    breaker.note_failure("sandbox", LIMITS, probe=True)
    made.refresh_from_db()
    assert (made.open_until, made.openings) == (None, 0)


# --- what is released


def hold(accept, count):
    payments = [accept(key=f"held-{number}") for number in range(count)]
    for number, payment in enumerate(payments):  # the longest held last in the table
        Payment.objects.filter(pk=payment.pk).update(
            status=Status.PROCESSING,
            held_since=Now() - timedelta(minutes=number),
            next_attempt_at=Now(),
            charge_attempts=1,
        )
    return payments


def test_those_first_that_were_sent_least_often_and_of_them_the_longest_held(accept, monkeypatch):
    monkeypatch.setattr(release, "LIMIT", 2)
    payments = hold(accept, 4)
    Payment.objects.filter(pk=payments[3].pk).update(charge_attempts=2)
    circuit()
    work().delete()
    assert release.run_once() == 2
    assert {message.payload["ids"][0] for message in work()} == {str(payments[2].pk), str(payments[1].pk)}
    found = Payment.objects.get(pk=payments[2].pk)
    assert found.held_since is None
    assert found.next_attempt_at is not None
    assert 59 < (found.revive_at - found.next_attempt_at).total_seconds() < 61
    assert work().first().request_id.startswith("request-held")


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({}, 3),
        ({"paused_at": NOW, "pause_reason": "maintenance"}, 0),
        ({"open_until": NOW + timedelta(hours=1), "openings": 1}, 0),
        ({"open_until": NOW - timedelta(hours=1), "openings": 1}, 1),
        ({"open_until": NOW - timedelta(hours=1), "openings": 1, "probing_until": NOW - timedelta(hours=1)}, 1),
        ({"open_until": NOW - timedelta(hours=1), "openings": 1, "probing_until": NOW + timedelta(hours=1)}, 0),
    ],
)
def test_as_many_are_released_as_the_state_of_their_gateway_admits(accept, values, count):
    hold(accept, 3)
    circuit(**values)
    assert release.run_once() == count
    assert Payment.objects.filter(held_since__isnull=True).count() == count


def test_what_waits_for_another_gateway_is_not_released(accept):
    hold(accept, 2)
    circuit(gateway="other")
    assert release.run_once() == 0
