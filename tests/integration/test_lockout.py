"""Who guesses passwords is locked out, for a while and from one place; nobody else is, and nobody learns who exists."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from structlog.testing import capture_logs

from merchants import lockout, second_factor
from merchants.audit import SYSTEM
from merchants.models import AuditEntry, LoginSession, Role, User
from tests.logins import PASSWORD, ask, call, tokens

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WRONG = "wrong-" + PASSWORD
ELSEWHERE = "192.0.2.7"

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(person, merchant):
    return person({merchant: Role.ADMIN})


@pytest.fixture(autouse=True)
def no_other_limit(settings):
    """What any caller may send in a minute comes sooner, and is another test's."""
    settings.LIMITS = {**settings.LIMITS, "logins": "1000/m", "strangers": "1000/m"}


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def guess(client, times, **fields):
    return [ask(client, **{"password": WRONG, **fields}).status_code for _ in range(times)]


def knock(password, *, name="ada", address="127.0.0.1"):
    """Log in to the console."""
    posted = {"username": name, "password": password, "next": "/"}
    return Client(raise_request_exception=False).post(reverse("admin:login"), posted, REMOTE_ADDR=address)


# --- at the API


def test_the_fifth_wrong_password_locks_even_the_right_one_out(anybody, ada):
    assert guess(anybody, 5) == [401] * 4 + [429]
    refused = ask(anybody)
    assert refused.status_code == 429
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert refused["Retry-After"] == "900"
    assert not LoginSession.objects.exists()


def test_nobody_learns_from_a_lock_who_exists(anybody, ada):
    def told(**fields):
        answers = [ask(anybody, **{"password": WRONG, **fields}) for _ in range(7)]
        members = ("status", "code", "title", "detail", "errors", "retryable")
        return [([answer.json()[name] for name in members], answer.get("Retry-After")) for answer in answers]

    assert told() == told(username="nobody") == told(username="nobody else")


def test_nobody_locks_out_somebody_else_from_afar(anybody, ada):
    guess(anybody, 7, address=ELSEWHERE)
    assert ask(anybody, address=ELSEWHERE).status_code == 429
    assert ask(anybody).status_code == 200


def test_a_network_of_addresses_guesses_no_more_than_one(anybody, ada):
    for number in range(5):
        guess(anybody, 1, address=f"2001:db8::{number + 1}")
    assert ask(anybody, address="2001:db8::ffff").status_code == 429
    assert ask(anybody, address="2001:db8:0:1::1").status_code == 200


def test_no_limit_of_one_stranger_keeps_somebody_else_out(anybody, ada, settings):
    settings.LIMITS = {**settings.LIMITS, "logins": "20/m"}  # the default
    statuses = guess(anybody, 150, address=ELSEWHERE)
    assert statuses[-1] == 429
    Client().post(reverse("admin:login"), {"username": "ada", "password": WRONG}, REMOTE_ADDR=ELSEWHERE)
    assert ask(anybody).status_code == 200


def test_nobody_else_at_the_same_address_is_locked_out(anybody, ada, person, merchant):
    person({merchant: Role.VIEWER}, name="bob")
    guess(anybody, 7)
    assert ask(anybody, username="bob").status_code == 200


def test_nobody_gets_around_a_lock_by_another_browser_or_a_forged_header(anybody, ada):
    for number in range(7):
        headers = {"user-agent": f"browser {number}", "x-forwarded-for": f"192.0.2.{number}"}
        body = {"username": "ada", "password": WRONG}
        anybody.post("/api/v1/token", body, content_type="application/json", headers=headers)
    assert ask(anybody).status_code == 429


def test_a_lock_ends_after_a_quarter_of_an_hour_however_often_one_knocks(anybody, ada, clock):
    guess(anybody, 5)
    for minutes in (5, 10, 14.9):
        clock.move_to(NOON + timedelta(minutes=minutes))
        assert ask(anybody).status_code == 429
    clock.move_to(NOON + timedelta(minutes=15, seconds=1))
    assert ask(anybody).status_code == 200


def test_who_gets_in_begins_anew(anybody, ada):
    for _ in range(3):
        assert guess(anybody, 4) == [401] * 4
        assert ask(anybody).status_code == 200


def test_a_lock_takes_nothing_from_who_is_logged_in(anybody, ada):
    access = tokens(anybody)["access"]
    guess(anybody, 7)
    assert call(anybody, access).status_code == 200


# --- in the console


def test_the_consoles_login_locks_in_the_same_way(anybody, person):
    person({}, is_staff=True)
    assert [knock(WRONG).status_code for _ in range(5)] == [200] * 4 + [429]
    page = knock(PASSWORD)
    assert (page.status_code, page["Retry-After"], page["Cache-Control"]) == (429, "900", "no-store")
    assert "too many attempts" in page.content.decode()
    assert "15 minutes" in page.content.decode()
    assert knock(PASSWORD, address=ELSEWHERE).status_code == 302
    assert ask(anybody).status_code == 429  # one lock for both doors


def test_the_consoles_page_is_the_same_for_nobody(person):
    person({}, is_staff=True)
    known, unknown = ([knock(WRONG, name=name) for _ in range(6)][-1] for name in ("ada", "nobody"))
    assert known.status_code == unknown.status_code == 429
    assert known.content == unknown.content


# --- what is kept and told


def test_a_lock_is_written_down_once_and_single_failures_never(anybody, ada):
    guess(anybody, 4)
    assert not AuditEntry.objects.exists()
    guess(anybody, 6)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.via) == ("login.locked_out", f"user:{ada.pk}", "api")
    assert entry.address == "127.0.0.1"


def test_a_password_typed_as_a_name_is_kept_and_logged_nowhere(anybody):
    typed = "my-secret-password-in-the-wrong-field"
    with capture_logs() as lines:
        guess(anybody, 6, username=typed)
        knock(WRONG, name=typed)
    stored = str(list(AccessAttempt.objects.values()) + list(AuditEntry.objects.values()) + lines)
    assert AccessAttempt.objects.exists()
    assert typed not in stored
    assert WRONG not in stored


def test_no_log_has_a_whole_name():
    assert lockout.in_logs("ada.lovelace", "192.0.2.7", "browser") == "ad… from 192.0.2.7"


def test_a_login_to_the_console_is_written_down(person):
    person({}, is_staff=True)
    assert knock(PASSWORD).status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.via) == ("login.succeeded", "user:ada", "console")
    assert entry.subject == f"user:{User.objects.get().pk}"


def test_pruning_forgets_failures_that_no_longer_count(anybody, ada, clock):
    guess(anybody, 2)
    clock.move_to(NOON + timedelta(minutes=14))
    call_command("prune", verbosity=0)
    assert AccessAttempt.objects.count() == 1
    clock.move_to(NOON + timedelta(minutes=16))
    call_command("prune", verbosity=0)
    assert not AccessAttempt.objects.exists()


# --- the second factor


@pytest.fixture
def device(ada):
    return TOTPDevice.objects.create(user=ada, name="phone", confirmed=True)


def code_of(device, *, now=NOON, wrong=False):
    code = totp(device.bin_key, t0=device.t0, digits=device.digits, step=device.step)
    return f"{(code + 1) % 10**6 if wrong else code:06}"


def problem_of(answer):
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_who_has_a_second_factor_gets_nothing_without_it(anybody, device):
    answer = ask(anybody)
    assert problem_of(answer) == (401, "otp_required")
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert anybody.get("/problems/otp_required").status_code == 200
    assert not LoginSession.objects.exists()


def test_that_a_second_factor_is_needed_is_told_only_after_the_right_password(anybody, device):
    assert problem_of(ask(anybody, password=WRONG)) == (401, "unauthenticated")
    assert problem_of(ask(anybody, password=WRONG, otp=code_of(device))) == (401, "unauthenticated")


def test_the_second_factor_makes_a_session_that_has_it(anybody, device, clock):
    assert ask(anybody, otp=code_of(device)).status_code == 200
    assert LoginSession.objects.get().second_factor is True


def test_who_has_no_second_factor_makes_a_session_without_it(anybody, ada):
    assert ask(anybody, otp="123456").status_code == 200
    assert LoginSession.objects.get().second_factor is False


def test_a_device_that_was_never_confirmed_is_none(anybody, device):
    TOTPDevice.objects.update(confirmed=False)
    assert ask(anybody).status_code == 200


def test_a_one_time_password_is_never_taken_twice(anybody, device, clock):
    code = code_of(device)
    assert ask(anybody, otp=code).status_code == 200
    assert problem_of(ask(anybody, otp=code)) == (401, "otp_wrong")
    clock.shift(timedelta(seconds=31))
    assert problem_of(ask(anybody, otp=code)) == (401, "otp_wrong")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_of_fifty_with_one_code_at_once_one_gets_in(ada, device, kind, settings):
    settings.AXES_ENABLED = False  # or a lock makes most of them nobody
    code = code_of(device) if kind == "app" else second_factor.renew_codes(user=ada, who=SYSTEM)[0]
    barrier = threading.Barrier(50)

    def one(_number):
        try:
            barrier.wait(30)
            return ask(Client(raise_request_exception=False), otp=code).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(one, range(50)))
    assert sorted(statuses) == [200] + [401] * 49
    assert LoginSession.objects.count() == 1


def test_a_code_that_the_console_took_is_not_taken_at_the_api(anybody, device, ada, clock):
    code = code_of(device)
    assert second_factor.verify(user=ada, code=code) is not None
    assert problem_of(ask(anybody, otp=code)) == (401, "otp_wrong")


def test_a_recovery_code_is_never_taken_twice(anybody, device, ada, clock):
    recovery = second_factor.renew_codes(user=ada, who=SYSTEM)[0]
    assert ask(anybody, otp=recovery).status_code == 200
    clock.shift(timedelta(minutes=1))
    assert problem_of(ask(anybody, otp=recovery)) == (401, "otp_wrong")


@pytest.mark.parametrize("otp", ["000000", "x", "１２３４５６", "12345678", "-1", " "])
def test_a_wrong_one_time_password_gets_nothing_and_never_a_500(anybody, device, clock, otp):
    assert ask(anybody, otp=otp).status_code in {400, 401}
    assert not LoginSession.objects.exists()


def test_who_guesses_one_time_passwords_is_locked_out_too(anybody, device, clock):
    statuses = []
    for _ in range(6):
        clock.shift(timedelta(seconds=40))  # beyond the device's own patience
        statuses.append(ask(anybody, otp=code_of(device, wrong=True)).status_code)
    assert statuses == [401] * 4 + [429] * 2
    assert ask(anybody, otp=code_of(device)).status_code == 429


def test_right_codes_soon_after_wrong_ones_are_not_taken(anybody, device, clock):
    assert ask(anybody, otp=code_of(device, wrong=True)).status_code == 401
    assert problem_of(ask(anybody, otp=code_of(device))) == (401, "otp_wrong")


def test_staff_do_what_only_staff_may_in_no_session_without_a_second_factor(anybody, person, merchant, settings, clock):
    boss = person({merchant: Role.ADMIN}, name="boss", is_staff=True, is_superuser=True)
    letters = "/api/v1/dead-letters"

    def status(access):
        return anybody.get(letters, headers={"authorization": f"Bearer {access}"}).status_code

    bare = tokens(anybody, username="boss")["access"]
    settings.ADMIN_SECOND_FACTOR = False
    assert status(bare) == 200
    settings.ADMIN_SECOND_FACTOR = True
    assert status(bare) == 403
    assert call(anybody, bare).status_code == 200  # as the merchant's member
    device = TOTPDevice.objects.create(user=boss, name="phone", confirmed=True)
    assert status(tokens(anybody, username="boss", otp=code_of(device))["access"]) == 200
