"""Re-authentication: a session left open on a desk moves no money and changes nobody's trust."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.signals import user_login_failed
from django.test import Client
from django.urls import URLResolver, reverse
from django.utils import timezone

from merchants.confirmation import CONFIRMED_AT
from merchants.models import AuditEntry, LoginSession, User
from messaging.models import Resolution
from messaging.selections import Selection
from notifications import endpoints
from notifications.models import Contact, Preference, WebhookEndpoint
from tests.console import PASSWORD, age, app_of, browser, code_of, person
from tests.decisions import resolve
from tests.dying import foreign

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick_passwords")]

CONFIRM = "/admin/confirm/"


@pytest.fixture
def stale():
    """A browser whose password was typed half an hour ago."""
    client = browser(person())
    age(client, CONFIRMED_AT, 1800)
    return client


@pytest.fixture
def endpoint(merchant):
    made, _ = endpoints.create(merchant=merchant, mode="test", url="https://hooks.example.com/in")
    return made


@pytest.fixture
def contact(merchant):
    return Contact.objects.create(merchant=merchant, mode="test", user_id="u-1", email="a@example.com")


def asks(answer):
    return answer.status_code == 302 and answer["Location"].startswith(CONFIRM)


# --- what is guarded


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_no_dead_letter_is_decided_on_by_a_stale_session(stale, action):
    letter = foreign(b"{}")
    assert asks(stale.get(reverse("admin:messaging_deadletter_preview"), {"action": action, "ids": letter.pk}))
    assert asks(stale.post(reverse("admin:messaging_deadletter_preview"), {"proposal": "x", "reason": "r"}))
    letter.refresh_from_db()
    assert letter.state == "open"


@pytest.mark.parametrize("name", ["stop", "resume"])
def test_no_resolution_is_steered_by_a_stale_session(stale, name):
    foreign(b"{}")
    made = resolve(Selection(), Resolution.Action.DISCARD, reason="r", by="ada")
    before = Resolution.objects.get(pk=made.pk).state
    assert asks(stale.post(reverse(f"admin:messaging_resolution_{name}", args=[made.pk])))
    assert Resolution.objects.get(pk=made.pk).state == before


def test_no_payment_is_taken_up_by_a_stale_session(stale, accept):
    payment = accept()
    before = payment.next_attempt_at
    changes = {"action": "take_up_now", "_selected_action": [str(payment.pk)], "index": "0"}
    assert asks(stale.post(reverse("admin:payments_payment_changelist"), changes))
    payment.refresh_from_db()
    assert payment.next_attempt_at == before


@pytest.mark.parametrize("name", ["rotate", "disable", "enable", "test", "redeliver"])
def test_no_webhook_endpoint_is_changed_by_a_stale_session(stale, endpoint, name):
    before = WebhookEndpoint.objects.filter(pk=endpoint.pk).values().get()
    assert asks(stale.post(reverse(f"admin:notifications_webhookendpoint_{name}", args=[endpoint.pk])))
    assert WebhookEndpoint.objects.filter(pk=endpoint.pk).values().get() == before


@pytest.mark.parametrize("method", ["get", "post"])
def test_no_webhook_endpoint_is_made_by_a_stale_session(stale, method):
    assert asks(getattr(stale, method)(reverse("admin:notifications_webhookendpoint_add")))
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_no_contact_is_edited_by_a_stale_session(stale, contact, method):
    for page, arguments in (("change", [contact.pk]), ("add", []), ("delete", [contact.pk])):
        assert asks(getattr(stale, method)(reverse(f"admin:notifications_contact_{page}", args=arguments)))
    assert asks(getattr(stale, method)(reverse("admin:notifications_preference_add")))
    assert (Contact.objects.count(), Preference.objects.count()) == (1, 0)


def test_no_selection_of_contacts_is_deleted_by_a_stale_session(stale, contact):
    chosen = {"action": "delete_selected", "_selected_action": [contact.pk], "post": "yes"}
    assert asks(stale.post(reverse("admin:notifications_contact_changelist"), chosen))
    assert Contact.objects.exists()


#: What may be posted by a session that nobody has confirmed: it lets nobody do anything, or asks itself.
FREE = re.compile(r"login|logout|confirm|second_factor_code|.*_export")
#: Django's own: they change nothing, and of lists only actions do, which ask themselves.
LOOKS = re.compile(r"index|app_list|jsi18n|autocomplete|view_on_site|password_change_done|.*_(changelist|history)|None")


def pages(patterns, before=""):
    """All addresses of the console with their names, made up where they name a row."""
    for found in patterns:
        route = before + str(found.pattern)
        if isinstance(found, URLResolver):
            yield from pages(found.url_patterns, route)
        else:
            made_up = re.sub(r"<uuid:\w+>", "00000000-0000-0000-0000-000000000000", route)
            yield str(found.name), "/admin/" + re.sub(r"<[^>]+>", "1", made_up)


def test_no_page_that_changes_anything_takes_a_post_of_a_stale_session(stale):
    """A new page is asked for by its address alone: whoever forgets to guard it fails here."""
    posted = [(name, page) for name, page in pages(admin.site.get_urls()) if not LOOKS.fullmatch(name)]
    assert len(posted) > 40
    for name, page in posted:
        if FREE.fullmatch(name):
            continue
        answer = stale.post(page, {"reason": "r"})
        # Of what nobody may change, Django says so before anybody is asked.
        assert asks(answer) or answer.status_code == 403, (name, answer.status_code)


def test_looking_asks_nobody(stale, contact, endpoint, accept):
    foreign(b"{}")
    accept()
    for name in ("payments_payment", "messaging_deadletter", "notifications_webhookendpoint", "notifications_contact"):
        assert stale.get(reverse(f"admin:{name}_changelist")).status_code == 200, name


# --- the page


def test_whoever_confirms_goes_on_where_it_began(stale):
    letter = foreign(b"{}")
    begun = reverse("admin:messaging_deadletter_preview") + f"?action=discard&ids={letter.pk}"
    asked = stale.get(begun)["Location"]
    answer = stale.post(asked, {"password": PASSWORD})
    assert answer["Location"] == begun
    assert stale.get(begun).status_code == 200


def test_what_came_too_late_begins_where_it_was_posted_from(stale, endpoint):
    page = reverse("admin:notifications_webhookendpoint_change", args=[endpoint.pk])
    address = reverse("admin:notifications_webhookendpoint_enable", args=[endpoint.pk])
    asked = stale.post(address, headers={"referer": f"http://testserver{page}"})["Location"]
    assert stale.post(asked, {"password": PASSWORD})["Location"] == f"http://testserver{page}"


@pytest.mark.parametrize("password", ["", "wrong", "\0", "x" * 5000])
def test_a_wrong_password_confirms_nothing(stale, password):
    answer = stale.post(CONFIRM, {"password": password})
    assert answer.status_code in (200, 400)
    assert asks(stale.get(reverse("admin:notifications_webhookendpoint_add")))


def test_wrong_passwords_are_counted_as_at_the_login(stale):
    seen = []

    def count(credentials, request, **_event):
        seen.append((credentials["username"], request.path))

    user_login_failed.connect(count)
    try:
        stale.post(CONFIRM, {"password": "wrong"})
    finally:
        user_login_failed.disconnect(count)
    assert seen == [("ada", CONFIRM)]


def test_the_password_alone_does_not_do_where_there_is_a_device():
    ada = person()
    device = app_of(ada)
    client = browser(ada)
    client.post("/admin/second-factor/code/", {"code": code_of(device)})
    device.last_t = -1
    device.save()
    age(client, CONFIRMED_AT, 1800)
    assert client.post(CONFIRM, {"password": PASSWORD}).status_code == 200
    assert asks(client.get(reverse("admin:notifications_webhookendpoint_add")))
    device.refresh_from_db()
    assert client.post(CONFIRM, {"password": PASSWORD, "code": code_of(device)}).status_code == 302
    assert client.get(reverse("admin:notifications_webhookendpoint_add")).status_code == 200


def test_a_recovery_code_beside_a_wrong_password_is_kept_nowhere():
    ada = person()
    client = browser(ada)
    device = app_of(ada)
    client.post(reverse("admin:second_factor_code"), {"code": code_of(device)})
    assert client.post(CONFIRM, {"password": "wrong", "code": "abcd-efgh-ijkl-mnop"}).status_code == 200
    assert "abcd" not in AccessAttempt.objects.get().post_data


def test_a_code_is_not_used_up_by_a_wrong_password():
    ada = person()
    device = app_of(ada)
    client = browser(ada)
    client.force_login(ada)
    client.post("/admin/second-factor/code/", {"code": code_of(device)})
    before = type(device).objects.values().get()
    client.post(CONFIRM, {"password": "wrong", "code": "000000"})
    assert type(device).objects.values().get() == before


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "\\\\evil.example",
        "http:///evil.example",
    ],
)
@pytest.mark.parametrize("place", ["query", "body"])
def test_nobody_is_led_elsewhere(stale, target, place):
    given = {"password": PASSWORD, **({"next": target} if place == "body" else {})}
    query = {"next": target} if place == "query" else {}
    answer = stale.post(CONFIRM, given, query_params=query)
    assert answer["Location"] == "/admin/"


@pytest.mark.parametrize("target", ["abc", "home", "?", "#", "@evil.example"])
def test_a_place_that_is_no_page_of_ours_breaks_nothing(stale, target):
    """It is taken for a place here, and never for the name of a page."""
    stale.raise_request_exception = False
    for answer in (
        stale.get("/admin/second-factor/code/", {"next": target}),
        stale.post(CONFIRM, {"password": PASSWORD, "next": target}),
    ):
        assert (answer.status_code, answer["Location"]) == (302, target)


def test_a_login_that_is_to_lead_elsewhere_leads_into_the_console():
    person()
    answer = Client().post("/admin/login/", {"username": "ada", "password": PASSWORD, "next": "//evil.example"})
    assert answer["Location"] == "/admin/"


# --- one's own password

NEW = {"new_password1": "another of the tests", "new_password2": "another of the tests"}


def test_nobody_guesses_the_password_of_a_session_left_open(stale):
    assert asks(stale.post("/admin/password_change/", {"old_password": PASSWORD, **NEW}))
    assert User.objects.get().check_password(PASSWORD)


def test_nobody_guesses_without_end_right_after_a_login(settings):
    settings.LIMITS = {**settings.LIMITS, "logins": "3/m"}
    client = browser(person())
    tried = [client.post("/admin/password_change/", {"old_password": "wrong", **NEW}).status_code for _ in range(3)]
    assert tried == [200, 200, 429]


def test_no_change_of_ones_own_password_goes_unrecorded(merchant):
    ada = person()
    soon = timezone.now() + timedelta(days=1)
    LoginSession.objects.create(user=ada, merchant=merchant, mode="test", current=uuid4(), expires_at=soon)
    client = browser(ada)
    client.post("/admin/password_change/", {"old_password": "wrong", **NEW})
    assert not AuditEntry.objects.filter(action="user.password_changed").exists()
    assert client.post("/admin/password_change/", {"old_password": PASSWORD, **NEW}).status_code == 302
    entry = AuditEntry.objects.get(action="user.password_changed")
    assert (entry.actor, entry.subject, entry.before, entry.after) == ("user:ada", f"user:{ada.pk}", None, None)
    assert LoginSession.objects.get().end == "changed"


@pytest.mark.parametrize("at", [None, "now", 1e12, -1])
def test_a_session_with_a_strange_time_is_not_confirmed(stale, at):
    session = stale.session
    session[CONFIRMED_AT] = at
    session.save()
    assert asks(stale.get(reverse("admin:notifications_webhookendpoint_add")))


def test_strangers_are_not_asked_for_a_password_of_others():
    assert Client().get(CONFIRM)["Location"].startswith("/admin/login/")
