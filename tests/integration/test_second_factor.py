"""The second factor: nothing of the console without it, no code twice, and no way around it for a stolen session."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from console.guard import BEGAN_AT, LONGEST, OPEN
from merchants import audit, second_factor
from merchants.confirmation import CONFIRMED_AT
from merchants.models import AuditEntry
from tests.console import PASSWORD, age, app_of, browser, code_of, person, wrong_code_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick_passwords")]

SET_UP, CODE, CODES = "/admin/second-factor/", "/admin/second-factor/code/", "/admin/second-factor/recovery-codes/"
RECOVERY_CODE = re.compile(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b")


@pytest.fixture(autouse=True)
def required(settings):
    settings.ADMIN_SECOND_FACTOR = True


@pytest.fixture
def ada():
    return person()


def addresses():
    """Every address of the console that needs no argument, and some that do."""
    found = {
        f"/admin/{pattern.pattern}".replace("^", "").replace("$", "")
        for pattern in admin.site.get_urls()
        if getattr(pattern, "name", None) not in OPEN | {"confirm"} and "<" not in str(pattern.pattern)
    }
    models = {f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry}
    more = {f"{model}{page}" for model in models for page in ("add/", "1/change/", "1/delete/", "1/history/")}
    return sorted(found | models | more | {"/admin/nothing-here", "/admin/payments/"})


def set_up(client):
    """Through the pages; returns the recovery codes that were shown."""
    client.get(SET_UP)
    device = TOTPDevice.objects.get(confirmed=False)
    answer = client.post(SET_UP, {"set_up": "1", "code": code_of(device)})
    return RECOVERY_CODE.findall(answer.content.decode())


# --- nothing before it


@pytest.mark.parametrize("method", ["get", "post"])
def test_nothing_of_the_console_is_shown_before_a_second_factor_is_set_up(ada, method):
    client = browser(ada)
    assert len(addresses()) > 30
    for address in addresses():
        answer = getattr(client, method)(address)
        assert (answer.status_code, answer.headers.get("Location", "").partition("?")[0]) == (302, SET_UP), address


@pytest.mark.parametrize("method", ["get", "post"])
def test_nothing_of_the_console_is_shown_before_the_code(ada, method):
    app_of(ada)
    client = browser(ada)
    for address in [*addresses(), SET_UP, "/admin/confirm/"]:
        answer = getattr(client, method)(address)
        assert (answer.status_code, answer.headers.get("Location", "").partition("?")[0]) == (302, CODE), address


def test_the_pages_before_the_console_name_nothing_of_it(ada):
    shown = browser(ada).get(SET_UP).content.decode()
    app_of(ada)
    shown += browser(ada).get(CODE).content.decode()
    assert "payments/payment" not in shown
    assert "nav-sidebar" not in shown


def test_one_can_always_log_out(ada):
    app_of(ada)
    client = browser(ada)
    client.post("/admin/logout/")
    assert "_auth_user_id" not in client.session


def test_strangers_are_sent_to_the_login():
    for address in (SET_UP, CODE, CODES, "/admin/confirm/", "/admin/second-factor/reset/1/"):
        assert Client().get(address)["Location"].startswith("/admin/login/")


def test_members_of_merchants_set_up_nothing_here():
    client = Client()
    client.force_login(person(is_staff=False, is_superuser=False))
    assert client.get(SET_UP)["Location"].startswith("/admin/login/")


def test_without_the_requirement_whoever_has_a_device_shows_it_and_nobody_else(settings, ada):
    settings.ADMIN_SECOND_FACTOR = False
    assert browser(ada).get("/admin/").status_code == 200
    app_of(ada)
    assert browser(ada).get("/admin/")["Location"].startswith(CODE)


# --- setting up


def test_setting_up_lets_in_and_shows_ten_codes_once(ada):
    client = browser(ada)
    before = client.session.session_key
    codes = set_up(client)
    assert len(set(codes)) == second_factor.CODES
    assert client.session.session_key != before, "the session's key is as it was before the second factor"
    assert client.get("/admin/").status_code == 200
    assert not RECOVERY_CODE.search(client.get(SET_UP).content.decode())
    entry = AuditEntry.objects.get(action="second_factor.set_up")
    assert (entry.actor, entry.subject) == ("user:ada", f"user:{ada.pk}")


def test_recovery_codes_are_not_kept_as_they_are(ada):
    codes = set_up(browser(ada))
    kept = set(StaticToken.objects.values_list("token", flat=True))
    assert kept.isdisjoint(code.replace("-", "") for code in codes)


def test_a_wrong_code_sets_nothing_up(ada):
    client = browser(ada)
    client.get(SET_UP)
    device = TOTPDevice.objects.get()
    answer = client.post(SET_UP, {"set_up": "1", "code": wrong_code_of(device)})
    assert "That code was not taken" in answer.content.decode()
    device.refresh_from_db()
    assert (device.confirmed, device.throttling_failure_count) == (False, 1)


def test_the_secret_is_in_the_page_and_in_no_address(ada):
    page = browser(ada).get(SET_UP)
    assert "<svg" in page.content.decode()
    assert "otpauth:" not in page.content.decode()
    assert "style=" not in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_a_secret_that_another_session_has_seen_never_becomes_the_one_that_holds(ada):
    thief, owner = browser(ada), browser(ada)
    thief.get(SET_UP)
    seen = TOTPDevice.objects.get().key
    set_up(owner)
    assert TOTPDevice.objects.get(confirmed=True).key != seen


def test_setting_up_asks_for_the_password_when_the_login_is_long_ago(ada):
    client = browser(ada)
    age(client, CONFIRMED_AT, 3600)
    assert client.get(SET_UP)["Location"].startswith("/admin/confirm/")
    assert client.get("/admin/confirm/").status_code == 200
    client.post("/admin/confirm/", {"password": PASSWORD})
    assert client.get(SET_UP).status_code == 200


# --- codes


def test_the_code_lets_in_and_leads_on(ada):
    device = app_of(ada)
    client = browser(ada)
    asked = client.get("/admin/payments/payment/?status=failed")["Location"]
    assert asked.startswith(CODE)
    key = client.session.session_key
    answer = client.post(asked, {"code": code_of(device)})
    assert answer["Location"] == "/admin/payments/payment/?status=failed"
    assert client.session.session_key != key
    assert client.get(answer["Location"]).status_code in (200, 302)
    assert client.get("/admin/").status_code == 200


def test_a_code_is_never_taken_twice(ada):
    code = code_of(app_of(ada))
    first, second = browser(ada), browser(ada)
    assert first.post(CODE, {"code": code}).status_code == 302
    assert "That code was not taken" in second.post(CODE, {"code": code}).content.decode()


def test_a_recovery_code_is_never_taken_twice(ada):
    code, other, *_ = set_up(browser(ada))
    assert browser(ada).post(CODE, {"code": code.upper()}).status_code == 302
    assert browser(ada).post(CODE, {"code": code}).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(seconds=2)):
        assert browser(ada).post(CODE, {"code": other.replace("-", " ")}).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_twenty_at_the_same_time_one_code_lets_in_one(ada):
    code = code_of(app_of(ada))

    def verify(_number):
        try:
            return second_factor.verify(user=ada, code=code) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(verify, range(20))) == 1


def test_wrong_codes_are_counted_and_make_even_the_right_one_wait(ada):
    device = app_of(ada)
    now = timezone.now()
    with time_machine.travel(now, tick=False) as clock:
        client = browser(ada)
        for _ in range(3):
            client.post(CODE, {"code": wrong_code_of(device)})
            clock.shift(100)
        client.post(CODE, {"code": wrong_code_of(device)})
        page = client.post(CODE, {"code": code_of(device)})
        assert "Wait 8 seconds first" in page.content.decode()
        clock.shift(8)
        assert client.post(CODE, {"code": code_of(device)}).status_code == 302


@pytest.mark.parametrize("code", ["", " ", "\0", "١٢٣٤٥٦", "12345", "-1", "1e5", "x" * 10_000, "000000 OR 1=1"])
def test_junk_for_a_code_is_refused_with_a_sentence(ada, code):
    app_of(ada)
    assert browser(ada).post(CODE, {"code": code}).status_code in (200, 400)


# --- replacing, and a stolen session


def test_a_stolen_session_replaces_no_device_and_makes_no_codes(ada):
    client = browser(ada)
    set_up(client)
    for page in (SET_UP, CODES):
        answer = client.post(page, {"set_up": "1", "code": "000000"})
        assert answer.status_code == 200
        assert not RECOVERY_CODE.search(answer.content.decode())
    assert TOTPDevice.objects.count() == 1


def test_a_device_is_replaced_with_a_code_of_the_old_one_and_other_sessions_end(ada):
    client, other = browser(ada), browser(ada)
    old, *_ = set_up(client)
    other.post(CODE, {"code": old})
    used = TOTPDevice.objects.get()
    assert other.get("/admin/").status_code == 200
    with time_machine.travel(timezone.now() + timedelta(seconds=90)):
        assert client.post(SET_UP, {"code": code_of(used)}).status_code == 302
        client.get(SET_UP)
        new = TOTPDevice.objects.get(confirmed=False)
        answer = client.post(SET_UP, {"set_up": "1", "code": code_of(new)})
    assert len(RECOVERY_CODE.findall(answer.content.decode())) == second_factor.CODES
    assert list(TOTPDevice.objects.all()) == [new]
    assert client.get("/admin/").status_code == 200
    assert other.get("/admin/")["Location"].startswith(CODE)
    assert browser(ada).post(CODE, {"code": old}).status_code == 200, "a recovery code of before is still taken"


def test_new_recovery_codes_end_the_old_ones(ada):
    client = browser(ada)
    old, spent, *_ = set_up(client)
    answer = client.post(CODES, {"code": spent})
    assert len(RECOVERY_CODE.findall(answer.content.decode())) == second_factor.CODES
    assert second_factor.verify(user=ada, code=old) is None


# --- reset


def test_a_session_of_before_a_reset_sets_up_nothing(ada):
    app = app_of(ada)
    with_password, with_code = browser(ada), browser(ada)
    with_code.post(CODE, {"code": code_of(app)})
    call_command("reset_second_factor", "ada", reason="phone lost, seen in person")
    for client in (with_password, with_code):
        assert client.get(SET_UP)["Location"].startswith("/admin/login/")
    assert browser(ada).get("/admin/")["Location"].startswith(SET_UP)
    entry = AuditEntry.objects.get(action="second_factor.reset")
    assert (entry.subject, entry.reason, entry.via) == (f"user:{ada.pk}", "phone lost, seen in person", "command")


def test_only_superusers_reset_the_device_of_others(settings, ada):
    settings.ADMIN_SECOND_FACTOR = False
    app_of(ada)
    address = f"/admin/second-factor/reset/{ada.pk}/"
    helper = person("bob", is_superuser=False)
    assert browser(helper).post(address, {"reason": "please"}).status_code == 403
    assert second_factor.device_of(ada) is not None
    root = browser(person("root"))
    assert root.post(address, {"reason": ""}).status_code == 200
    assert second_factor.device_of(ada) is not None
    root.post(address, {"reason": "seen in person"})
    assert second_factor.device_of(ada) is None
    assert AuditEntry.objects.get(action="second_factor.reset").actor == "user:root"


def test_the_command_names_what_is_wrong(ada):
    with pytest.raises(CommandError, match="nobody with the user name eve"):
        call_command("reset_second_factor", "eve", reason="x")
    with pytest.raises(CommandError, match="--reason"):
        call_command("reset_second_factor", "ada", reason=" ")
    assert not second_factor.reset(user=ada, who=audit.SYSTEM, reason="x")
    assert not AuditEntry.objects.filter(action="second_factor.reset").exists()


# --- sessions


def test_a_session_ends_after_a_working_day_however_busy_it_is(settings, ada):
    settings.ADMIN_SECOND_FACTOR = False
    client = browser(ada)
    assert client.get("/admin/").status_code == 200
    age(client, BEGAN_AT, LONGEST + 1)
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("began", [None, "yesterday", 1e12])
def test_a_session_without_a_sound_beginning_ends(settings, ada, began):
    settings.ADMIN_SECOND_FACTOR = False
    client = browser(ada)
    session = client.session
    session[BEGAN_AT] = began
    session.save()
    assert client.get("/admin/")["Location"].startswith("/admin/login/")


def test_a_login_changes_the_sessions_key(settings, ada):
    settings.ADMIN_SECOND_FACTOR = False
    client = Client()
    session = client.session
    session["planted"] = 1
    session.save()
    planted = session.session_key
    client.post("/admin/login/", {"username": "ada", "password": PASSWORD})
    assert client.session.session_key != planted


def test_a_new_password_ends_the_other_sessions(settings, ada):
    settings.ADMIN_SECOND_FACTOR = False
    mine, other = browser(ada), browser(ada)
    new = "another password of the tests"
    mine.post("/admin/password_change/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert mine.get("/admin/").status_code == 200
    assert other.get("/admin/")["Location"].startswith("/admin/login/")


def test_devices_and_their_secrets_are_in_no_list_of_the_console():
    assert not {TOTPDevice, StaticDevice, StaticToken} & set(admin.site._registry)
    admin.site.register([TOTPDevice], admin.ModelAdmin)  # as django-otp does, whenever it is imported
    assert not admin.site.is_registered(TOTPDevice)
