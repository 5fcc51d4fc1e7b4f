"""Re-authentication: a session left open on a desk moves no money and changes nobody's trust."""

import pytest
from django.contrib.auth.signals import user_login_failed
from django.test import Client
from django.urls import reverse

from merchants.confirmation import CONFIRMED_AT
from messaging import resolutions
from messaging.models import Resolution
from messaging.selections import Selection
from notifications import endpoints
from notifications.models import Contact, Preference, WebhookEndpoint
from tests.console import PASSWORD, age, app_of, browser, code_of, person
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
    made = resolutions.resolve(Selection(), Resolution.Action.DISCARD, reason="r", by="ada")
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


@pytest.mark.parametrize("at", [None, "now", 1e12, -1])
def test_a_session_with_a_strange_time_is_not_confirmed(stale, at):
    session = stale.session
    session[CONFIRMED_AT] = at
    session.save()
    assert asks(stale.get(reverse("admin:notifications_webhookendpoint_add")))


def test_strangers_are_not_asked_for_a_password_of_others():
    assert Client().get(CONFIRM)["Location"].startswith("/admin/login/")
