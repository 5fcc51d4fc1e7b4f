"""A login's session: each refresh token works once, and whoever comes with an old one ends it for all."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.test import Client
from structlog.testing import capture_logs

from merchants.models import AuditEntry, LoginSession, Mode, Role, User
from payments.models import Payment
from tests.logins import PASSWORD, call, claims_of, log_out, refresh, tokens, unauthenticated

#: See tests/doors.py.
BOTH_DOORS = True

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(person, merchant):
    return person({merchant: Role.ADMIN})


@pytest.fixture
def pair(anybody, ada):
    return tokens(anybody)


def the_end():
    """How the only session ended."""
    session = LoginSession.objects.get()
    assert (session.ended_at is None) == (session.end == "")
    return session.end


# --- used tokens


def test_a_refresh_token_works_once_and_its_heir_works(anybody, pair, merchant):
    response = refresh(anybody, pair["refresh"])
    assert response.status_code == 200
    second = response.json()
    assert second["refresh"] != pair["refresh"]
    assert call(anybody, second["access"], post=True).status_code == 202
    assert Payment.objects.get().merchant == merchant
    assert refresh(anybody, second["refresh"]).status_code == 200
    assert the_end() == ""


def test_a_used_refresh_token_is_never_taken_again_and_takes_its_heirs_with_it(anybody, pair):
    second = refresh(anybody, pair["refresh"]).json()
    unauthenticated(refresh(anybody, pair["refresh"]))
    assert the_end() == "reused"
    for token in (pair["access"], second["access"]):
        unauthenticated(call(anybody, token))
    for token in (pair["refresh"], second["refresh"]):
        unauthenticated(refresh(anybody, token))


def test_nobody_else_is_thrown_out_because_of_a_used_token(anybody, pair, person, merchant):
    mine, other = tokens(anybody), person({merchant: Role.VIEWER}, name="bob")
    others = tokens(anybody, username=other.username)
    refresh(anybody, pair["refresh"])
    unauthenticated(refresh(anybody, pair["refresh"]))
    for untouched in (mine, others):
        assert call(anybody, untouched["access"]).status_code == 200
        assert refresh(anybody, untouched["refresh"]).status_code == 200


def test_a_used_token_is_never_overlooked(anybody, pair, merchant):
    refresh(anybody, pair["refresh"])
    with capture_logs() as lines:
        for _ in range(3):
            unauthenticated(refresh(anybody, pair["refresh"]))
    session = LoginSession.objects.get()
    entry = AuditEntry.objects.get(action="session.reused")
    assert (entry.subject, entry.merchant, entry.address) == (f"session:{session.pk}", merchant, "127.0.0.1")
    assert entry.after == {"user": "ada"}
    (told,) = [line for line in lines if line["event"] == "session.reused"]
    assert told == {"event": "session.reused", "session": str(session.pk), "log_level": "warning"}


@pytest.mark.django_db(transaction=True)
def test_of_fifty_who_come_with_one_token_at_once_one_goes_on_and_the_session_ends(anybody, pair):
    statuses = at_once(50, pair["refresh"])
    assert sorted(statuses) == [200, *[401] * 49]
    assert the_end() == "reused"
    assert AuditEntry.objects.filter(action="session.reused").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_used_token_is_refused_to_all_of_fifty_at_once(anybody, pair):
    heir = refresh(anybody, pair["refresh"]).json()
    assert at_once(50, pair["refresh"]) == [401] * 50
    assert the_end() == "reused"
    unauthenticated(call(anybody, heir["access"]))
    assert AuditEntry.objects.filter(action="session.reused").count() == 1


def at_once(count, token):
    """The answers to so many who refresh with one token at the same moment."""
    start = threading.Barrier(count, timeout=30)

    def one(_):
        try:
            client = Client(raise_request_exception=False)
            connection.ensure_connection()
            start.wait()
            return refresh(client, token).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# --- time


def test_a_refresh_token_ends_after_a_day(anybody, ada):
    with time_machine.travel(NOON, tick=False):
        token = tokens(anybody)["refresh"]
    with time_machine.travel(NOON + DAY, tick=False):
        unauthenticated(refresh(anybody, token))
    assert the_end() == ""  # it is merely over
    with time_machine.travel(NOON + DAY - timedelta(seconds=1), tick=False):
        assert refresh(anybody, token).status_code == 200


def test_no_session_outlives_thirty_days_however_often_it_is_refreshed(anybody, ada):
    with time_machine.travel(NOON, tick=False) as clock:
        pair = tokens(anybody)
        for hours in range(20, 30 * 24, 20):
            clock.move_to(NOON + timedelta(hours=hours))
            pair = refresh(anybody, pair["refresh"]).json()
        end = NOON + 30 * DAY
        assert claims_of(pair["refresh"])["exp"] == end.timestamp()
        clock.move_to(end - timedelta(seconds=1))
        last = refresh(anybody, pair["refresh"]).json()
        assert call(anybody, last["access"]).status_code == 200
        clock.move_to(end)
        unauthenticated(call(anybody, last["access"]))
        unauthenticated(refresh(anybody, last["refresh"]))


def test_pruning_forgets_no_session_that_is_open_or_over_for_less_than_a_week(anybody, ada):
    with time_machine.travel(NOON, tick=False) as clock:
        tokens(anybody)
        for days, left in [(0.5, 1), (7.9, 1), (8.1, 0)]:
            clock.move_to(NOON + days * DAY)
            call_command("prune", stdout=(out := StringIO()))
            assert LoginSession.objects.count() == left
        assert "Login sessions forgotten: 1." in out.getvalue()


# --- ends


def test_who_logs_out_is_out_at_once_with_all_tokens(anybody, pair):
    second = refresh(anybody, pair["refresh"]).json()
    assert log_out(anybody, second["refresh"]).status_code == 204
    assert the_end() == "logout"
    for token in (pair["access"], second["access"]):
        unauthenticated(call(anybody, token))
    unauthenticated(refresh(anybody, second["refresh"]))


def test_logging_out_twice_changes_nothing(anybody, pair):
    assert log_out(anybody, pair["refresh"]).status_code == 204
    ended = LoginSession.objects.get().ended_at
    assert log_out(anybody, pair["refresh"]).status_code == 204
    assert LoginSession.objects.get().ended_at == ended


@pytest.mark.parametrize("token", ["access", "garbage"])
def test_nobody_logs_out_with_anything_but_a_refresh_token(anybody, pair, token):
    unauthenticated(log_out(anybody, pair.get(token, token)))
    assert call(anybody, pair["access"]).status_code == 200


def test_a_logout_leaves_a_persons_other_logins_alone(anybody, pair):
    other = tokens(anybody)
    log_out(anybody, pair["refresh"])
    assert call(anybody, other["access"]).status_code == 200


def test_a_new_password_ends_what_began_with_the_old_one(anybody, pair, ada):
    ada.set_password("another-" + PASSWORD)
    ada.save()
    unauthenticated(call(anybody, pair["access"]))
    unauthenticated(refresh(anybody, pair["refresh"]))
    assert the_end() == "changed"


def test_who_was_deactivated_for_a_while_is_not_let_in_again_by_an_old_token(anybody, pair, ada):
    User.objects.update(is_active=False)
    unauthenticated(call(anybody, pair["access"]))
    unauthenticated(refresh(anybody, pair["refresh"]))
    User.objects.update(is_active=True)
    unauthenticated(call(anybody, pair["access"]))
    unauthenticated(refresh(anybody, pair["refresh"]))


def test_a_rotation_of_the_secret_key_throws_nobody_out(anybody, pair, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-secret-key-of-the-tests-of-sessions"
    assert call(anybody, pair["access"]).status_code == 200
    second = refresh(anybody, pair["refresh"]).json()
    settings.SECRET_KEY_FALLBACKS = []
    assert call(anybody, second["access"]).status_code == 200


# --- what is stored, said and asked


def test_no_session_holds_a_token_or_a_password(anybody, pair, ada):
    stored = str(list(LoginSession.objects.values()) + list(AuditEntry.objects.values()))
    assert pair["refresh"] not in stored
    assert ada.password not in stored
    assert PASSWORD not in stored


def test_a_login_is_written_down(anybody, merchant, pair):
    entry = AuditEntry.objects.get(action="login.succeeded")
    session = LoginSession.objects.get()
    assert (entry.actor, entry.via, entry.merchant) == ("user:ada", "api", merchant)
    assert entry.subject == f"session:{session.pk}"
    assert (session.address, session.mode) == ("127.0.0.1", Mode.TEST)
    assert User.objects.get().last_login is not None


@pytest.mark.parametrize("path", ["token", "token/refresh", "token/logout"])
@pytest.mark.parametrize("body", [{}, {"refresh": "x"}, {"username": "ada", "password": PASSWORD}])
def test_no_cache_keeps_what_the_token_addresses_answer(anybody, ada, path, body):
    answer = anybody.post(f"/api/v1/{path}", body, content_type="application/json")
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["token/refresh", "token/logout"])
def test_no_unknown_field_is_overlooked(anybody, pair, path):
    body = {"refresh": pair["refresh"], "token": "x"}
    answer = anybody.post(f"/api/v1/{path}", body, content_type="application/json")
    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/token"]
    assert the_end() == ""


def test_who_calls_costs_one_query(anybody, pair, merchant, django_assert_num_queries):
    call(anybody, pair["access"])
    with django_assert_num_queries(3):  # who calls, how often, and the payments
        assert call(anybody, pair["access"]).status_code == 200
