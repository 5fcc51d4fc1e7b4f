"""Notifications in the console: looking changes nothing, addresses are masked, a secret is shown once only."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages.storage.cookie import CookieStorage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from merchants.models import Merchant, Mode, User
from messaging import dead_letters
from messaging.models import DeadLetter, OutboxMessage
from notifications import endpoints, vault
from notifications.admin.endpoint_pages import page_of as endpoint_page
from notifications.admin.endpoint_pages import rotate
from notifications.models import Contact, Delivery, DeliveryAttempt, Preference, WebhookEndpoint
from payments.ids import uuid7

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert(1)</script>"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")
LIST = reverse("admin:notifications_delivery_changelist")
ENDPOINTS = reverse("admin:notifications_webhookendpoint_changelist")
ADD = reverse("admin:notifications_webhookendpoint_add")
WHY = {"reason": "the receiver is back"}
PAGES = ("rotate", "disable", "enable", "test", "redeliver")


def person(name, *permissions):
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer(db):
    return person("vera", "view_delivery", "view_webhookendpoint", "view_payment", "view_deadletter")


@pytest.fixture
def support(db):
    """Sees, redelivers and manages endpoints."""
    looks = ("view_delivery", "view_webhookendpoint", "view_payment", "view_deadletter")
    return person("sam", *looks, "redeliver_delivery", "manage_webhookendpoint")


@pytest.fixture
def endpoint(merchant):
    made, _ = endpoints.create(
        merchant=merchant, mode=Mode.TEST, url="https://hooks.example.com/in?token=hush", description=SCRIPT
    )
    return made


def deliver(merchant, *, endpoint=None, state="failed", **fields):
    """A delivery in some state, as the operations leave it."""
    now = timezone.now()
    waiting = {"next_attempt_at": now, "revive_at": now} if state == "pending" else {"finished_at": now}
    defaults = {
        "event_id": uuid7(),
        "event_type": "payment.succeeded",
        "channel": "webhook" if endpoint else "email",
        "recipient": endpoint.url if endpoint else "max.mustermann@example.com",
        "occurred_at": now,
        "tries": 1,
        "mode": "test",
    }
    return Delivery.objects.create(
        merchant=merchant, endpoint=endpoint, state=state, **waiting, **{**defaults, **fields}
    )


@pytest.fixture
def hostile(merchant, endpoint):
    """A failed webhook of which strangers wrote whatever they could."""
    made = deliver(merchant, endpoint=endpoint, note=SCRIPT, reference=SCRIPT, request_id=SCRIPT, data={"url": SCRIPT})
    DeliveryAttempt.objects.create(
        delivery=made, number=1, outcome="failed", status_code=500, detail=SCRIPT, excerpt=SCRIPT, latency_ms=123
    )
    dead_letters.record(
        queue="webhooks",
        actor="call_webhooks",
        payload={"ids": [str(made.pk)]},
        cause="delivery_exhausted",
        detail="HTTP 500",
        attempts=10,
        first_failed_at=timezone.now(),
        subject=f"delivery:{made.pk}",
    )
    return made


def text(response, status=200):
    assert response.status_code == status, response.content
    return response.content.decode()


def page_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def button(endpoint, name):
    return reverse(f"admin:notifications_webhookendpoint_{name}", args=[endpoint.pk])


def everything():
    """What looking must not change."""
    rows = [list(model.objects.order_by("pk").values()) for model in (Delivery, WebhookEndpoint, Contact, Preference)]
    return rows, OutboxMessage.objects.count(), LogEntry.objects.count()


# --- deliveries


def test_strangers_words_are_shown_as_text(viewer, hostile):
    for page in (LIST, page_of(hostile), ENDPOINTS, page_of(hostile.endpoint), f"{LIST}?q={SCRIPT}"):
        shown = text(viewer.get(page))
        assert SCRIPT not in shown, page
    assert "&lt;script&gt;" in text(viewer.get(page_of(hostile)))


def test_addresses_are_masked_and_tokens_in_urls_are_not_shown(viewer, merchant, hostile):
    mail, sms = deliver(merchant), deliver(merchant, channel="sms", recipient="+4915123456789")
    for page in (LIST, page_of(mail), page_of(sms), page_of(hostile)):
        shown = text(viewer.get(page))
        for secret in ("mustermann", "15123456", "hush"):
            assert secret not in shown, page
    shown = text(viewer.get(LIST))
    for masked in ("m…@e….com", "+49…789", "https://hooks.example.com/in?token=…"):
        assert masked in shown


@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        ("pending", {"tries": 0}, ["waits for its first attempt", "attempts left: 11"]),
        ("pending", {"note": "connection refused"}, ["tried once", "Connection refused.", "next attempt is made"]),
        ("delivered", {"tries": 2}, ["The mail server took it", "asked 2 times"]),
        ("failed", {"note": "no such mailbox"}, ["It was given up", "No such mailbox.", "Mend the cause"]),
        ("canceled", {"note": "the endpoint is disabled: deleted"}, ["It is not sent", "Enable the endpoint"]),
    ],
    ids=["new", "retried", "delivered", "failed", "canceled"],
)
def test_a_delivery_says_what_happened_and_what_comes_next(viewer, merchant, state, fields, words):
    shown = text(viewer.get(page_of(deliver(merchant, state=state, **fields))))
    for word in words:
        assert word in shown


def test_a_delivery_in_hand_is_said_to_be(viewer, merchant):
    made = deliver(merchant, state="pending", tries=2, lease_expires_at=timezone.now() + timedelta(minutes=1))
    assert "being sent at this moment, for the 2nd time" in text(viewer.get(page_of(made)))


def test_a_delivery_links_what_it_belongs_to(viewer, hostile, accept):
    payment = accept()
    Delivery.objects.filter(pk=hostile.pk).update(payment_id=payment.pk)
    shown = text(viewer.get(page_of(hostile)))
    letter = DeadLetter.objects.get()
    for linked in (payment, hostile.endpoint, letter):
        assert f'href="{page_of(linked)}"' in shown
    assert "123 ms" in shown
    assert page_of(hostile) in text(viewer.get(page_of(letter)))
    assert page_of(hostile) in text(viewer.get(reverse("admin:messaging_deadletter_changelist")))


def test_a_letter_is_found_by_its_delivery(viewer, hostile):
    found = viewer.get(reverse("admin:messaging_deadletter_changelist"), {"q": str(hostile.pk)})
    assert [letter.subject for letter in found.context["cl"].result_list] == [f"delivery:{hostile.pk}"]


def test_a_delivery_is_found_by_any_whole_id(viewer, merchant, endpoint):
    wanted = deliver(merchant, endpoint=endpoint, payment_id=uuid7(), request_id=str(uuid7()))
    deliver(merchant, payment_id=uuid7(), request_id="other")
    for term in (wanted.pk, wanted.event_id, wanted.payment_id, endpoint.pk, wanted.request_id, f" {wanted.pk} "):
        assert [row.pk for row in viewer.get(LIST, {"q": term}).context["cl"].result_list] == [wanted.pk]
    for term in ("no-such", str(uuid7())):
        assert not viewer.get(LIST, {"q": term}).context["cl"].result_list


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state__exact", "failed"),
        ("channel__exact", "webhook"),
        ("event_type", "payment.failed"),
        ("mode__exact", "live"),
        ("age", "hour"),
    ],
)
def test_a_filter_never_shows_what_it_leaves_out(viewer, merchant, endpoint, name, value):
    wanted = deliver(merchant, endpoint=endpoint, event_type="payment.failed", mode="live")
    old = deliver(merchant, state="delivered")
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=2))
    assert [row.pk for row in viewer.get(LIST, {name: value}).context["cl"].result_list] == [wanted.pk]


def test_the_lists_ask_no_query_per_row(viewer, merchant, endpoint, django_assert_max_num_queries):
    for number in range(20):
        deliver(merchant, endpoint=endpoint)
        endpoints.create(merchant=merchant, mode=Mode.LIVE, url=f"https://example.com/{number}")
    for page in (LIST, ENDPOINTS):
        with django_assert_max_num_queries(10):
            text(viewer.get(page))
    for page in (page_of(endpoint), page_of(Delivery.objects.first())):
        with django_assert_max_num_queries(14):
            text(viewer.get(page))


# --- redelivery


def redeliver(client, *rows):
    body = {"action": "redeliver_selected", **WHY, "_selected_action": [row.pk for row in rows]}
    return client.post(LIST, body, follow=True)


def test_a_redelivery_begins_anew_and_refusals_are_counted(support, merchant, endpoint):
    failed, delivered = deliver(merchant), deliver(merchant, state="delivered")
    pending, disabled = deliver(merchant, state="pending"), deliver(merchant, endpoint=endpoint)
    endpoints.change(endpoint=endpoint, enabled=False, now=timezone.now())
    shown = text(redeliver(support, failed, delivered, pending, disabled))
    for words in ("Begun anew: 2.", "left alone: 1.", "endpoint is disabled: 1."):
        assert words in shown
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert [states[row.pk] for row in (failed, delivered, pending, disabled)] == ["pending"] * 3 + ["failed"]
    assert OutboxMessage.objects.filter(queue="notifications").count() == 2
    assert LogEntry.objects.filter(change_message="Redelivered.").count() == 2


def test_the_button_of_one_delivery(support, merchant):
    made = deliver(merchant)
    assert "Redeliver</button>" in text(support.get(page_of(made)))
    shown = text(support.post(reverse("admin:notifications_delivery_redeliver", args=[made.pk]), WHY, follow=True))
    assert "Begun anew: 1." in shown
    assert "Redeliver</button>" not in shown


def test_who_may_only_look_redelivers_nothing(viewer, merchant):
    made = deliver(merchant)
    assert "Redeliver</button>" not in text(viewer.get(page_of(made)))
    redeliver(viewer, made)
    assert viewer.post(reverse("admin:notifications_delivery_redeliver", args=[made.pk])).status_code == 403
    made.refresh_from_db()
    assert made.state == "failed"


# --- webhook endpoints


def test_health_is_told_in_words(viewer, merchant, endpoint):
    for fields, words in (
        ({}, "never called with success"),
        ({"last_success_at": timezone.now()}, "last success"),
        ({"failing_since": timezone.now()}, "every call has failed since"),
        ({"enabled": False, "disabled_at": timezone.now(), "disabled_reason": "it answered 410 Gone"}, "410 Gone"),
    ):
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**fields)
        assert words in text(viewer.get(ENDPOINTS))
        assert words in text(viewer.get(page_of(endpoint)))
    for health, count in (("ok", 0), ("failing", 0), ("disabled", 1), ("deleted", 0), ("nonsense", 1)):
        assert len(viewer.get(ENDPOINTS, {"health": health}).context["cl"].result_list) == count


def test_looking_never_changes_anything(support, merchant, endpoint, hostile):
    before = everything()
    pages = [LIST, ENDPOINTS, ADD, page_of(hostile), page_of(endpoint), *(button(endpoint, name) for name in PAGES)]
    for page in pages:
        assert support.get(page).status_code in {200, 405}, page
    assert support.get(reverse("admin:notifications_delivery_redeliver", args=[hostile.pk])).status_code == 405
    assert everything() == before


def test_who_may_only_look_changes_nothing(viewer, endpoint):
    before = everything()
    for page in (ADD, *(button(endpoint, name) for name in PAGES)):
        assert viewer.post(page, {"since": "2026-01-01T00:00", **WHY}).status_code == 403, page
        assert viewer.get(page).status_code == 403, page
    assert everything() == before
    assert "Rotate" not in text(viewer.get(page_of(endpoint)))


def test_a_forged_form_changes_nothing(endpoint):
    user = User.objects.create_superuser("staff", password="not-typed-anywhere")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    before = everything()
    for page in (ADD, *(button(endpoint, name) for name in PAGES)):
        assert client.post(page, {"since": "2026-01-01T00:00", **WHY}).status_code == 403, page
    assert everything() == before


def test_a_rotated_secret_is_shown_once_and_nowhere_else(support, endpoint):
    old = vault.unlock(endpoint.secret)
    answer = support.post(button(endpoint, "rotate"), WHY)
    (secret,) = SECRET.findall(text(answer))
    endpoint.refresh_from_db()
    assert (vault.unlock(endpoint.secret), vault.unlock(endpoint.previous_secret)) == (secret, old)
    assert "no-store" in answer["Cache-Control"]
    assert set(answer.cookies) <= {"csrftoken", "sessionid"}
    assert secret not in str(answer.cookies)
    assert "rotation is under way" in text(support.get(button(endpoint, "rotate")))
    for page in (page_of(endpoint), ENDPOINTS, button(endpoint, "rotate"), reverse("admin:index")):
        assert not SECRET.search(text(support.get(page)))
    logged = LogEntry.objects.get()
    assert logged.change_message == "Rotated the secret."
    assert secret not in logged.object_repr
    assert secret not in str(dict(support.session))


def fields(owner, **others):
    given = {"merchant": owner.slug, "mode": "test", "kind": "registered", "url": "https://hooks.example.com/new"}
    return {**given, "event_types": ["payment.succeeded"], "description": "the shop", **WHY, **others}


def test_a_new_endpoints_secret_is_shown_once(support, merchant):
    shown = text(support.post(ADD, fields(merchant)))
    made = WebhookEndpoint.objects.get()
    assert SECRET.findall(shown) == [vault.unlock(made.secret)]
    assert (made.merchant, made.event_types, made.description) == (merchant, ["payment.succeeded"], "the shop")
    assert not SECRET.search(text(support.get(page_of(made))))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"merchant": "nobody"}, "No merchant has this slug."),
        ({"url": "ftp://hooks.example.com/"}, "https"),
        ({"url": "http://10.0.0.1/"}, "https"),
        ({"url": "https://10.0.0.1/"}, "public"),
        ({"kind": "payment"}, "the origin alone: https://hooks.example.com"),
        ({"event_types": ["payment.paid"]}, "payment.paid"),
        ({"mode": "both"}, "both"),
    ],
    ids=["merchant", "scheme", "plain", "private", "origin", "event", "mode"],
)
def test_an_endpoint_that_cannot_be_is_refused_with_the_mend(support, merchant, settings, wrong, says):
    settings.WEBHOOK_PRIVATE_TARGETS = False
    shown = text(support.post(ADD, fields(merchant, **wrong)))
    assert "Nothing was done" in shown
    assert says in shown
    assert not WebhookEndpoint.objects.exists()


def test_the_same_url_is_never_registered_twice(support, merchant):
    support.post(ADD, fields(merchant))
    assert "There is an endpoint for this URL already" in text(support.post(ADD, fields(merchant)))
    assert WebhookEndpoint.objects.count() == 1


def test_disabling_asks_first_and_says_what_it_cancels(support, merchant, endpoint):
    waiting = deliver(merchant, endpoint=endpoint, state="pending")
    assert "the 1 delivery that waits for it" in text(support.get(button(endpoint, "disable")))
    assert "written down" in text(support.get(button(endpoint, "disable")))
    assert "disabled by support" in text(support.post(button(endpoint, "disable"), WHY, follow=True))
    waiting.refresh_from_db()
    assert waiting.state == "canceled"
    shown = text(support.get(page_of(endpoint)))
    assert "Send test event" not in shown
    assert "Enable</button>" in shown
    endpoint.refresh_from_db()
    since = f"{endpoint.disabled_at:%Y-%m-%d %H:%M}"
    assert f"What it missed since {since} UTC" in text(support.post(button(endpoint, "enable"), WHY, follow=True))
    endpoint.refresh_from_db()
    assert endpoint.enabled


def test_a_test_event_leads_to_its_story(support, endpoint):
    shown = text(support.post(button(endpoint, "test"), follow=True))
    assert "webhook_endpoint.test" in shown
    assert Delivery.objects.get().endpoint == endpoint
    endpoints.change(endpoint=endpoint, enabled=False, now=timezone.now())
    assert "is disabled, so nothing is sent" in text(support.post(button(endpoint, "test"), follow=True))
    assert Delivery.objects.count() == 1


def test_redelivering_since_says_how_many_and_takes_no_more(support, merchant, endpoint):
    old, failed, delivered = (
        deliver(merchant, endpoint=endpoint, state=it) for it in ("failed", "failed", "delivered")
    )
    Delivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=3))
    since = f"{timezone.now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
    assert "Begun anew: 1 deliver" in text(
        support.post(button(endpoint, "redeliver"), {"since": since, **WHY}, follow=True)
    )
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert [states[row.pk] for row in (old, failed, delivered)] == ["failed", "pending", "delivered"]
    body = {"since": since, "everything": "on", **WHY}
    assert "Begun anew: 1 deliver" in text(support.post(button(endpoint, "redeliver"), body, follow=True))
    shown = text(support.post(button(endpoint, "redeliver"), {"since": "yesterday"}))
    assert "Write it as" in shown


def test_a_deleted_endpoint_has_no_buttons(support, endpoint):
    endpoints.delete(endpoint=endpoint, now=timezone.now())
    for name in PAGES:
        assert support.post(button(endpoint, name), WHY).status_code == 404
    assert "Rotate" not in text(support.get(page_of(endpoint)))


def test_what_a_deleted_endpoint_missed_is_refused_in_words_and_holds_up_no_others(support, merchant, endpoint):
    gone, other = deliver(merchant, endpoint=endpoint), deliver(merchant)
    endpoints.delete(endpoint=endpoint, now=timezone.now())
    shown = text(support.get(page_of(gone)))
    assert "Nothing: its webhook endpoint is deleted." in shown
    assert "Redeliver</button>" not in shown
    shown = text(redeliver(support, gone, other))
    assert "Begun anew: 1." in shown
    assert "endpoint is deleted: 1." in shown


def test_an_endpoint_that_its_merchant_deletes_under_a_button_is_told_in_words(rf, admin_user, endpoint):
    def deleted_meanwhile(request, endpoint, model_admin):
        endpoints.delete(endpoint=endpoint, now=timezone.now())
        return rotate(request, endpoint, model_admin)

    request = rf.post("/", WHY)
    request.user, request._messages = admin_user, CookieStorage(request)
    assert endpoint_page(deleted_meanwhile, None)(request, endpoint.pk).status_code == 302
    assert "is deleted, and nothing is sent" in str(next(iter(request._messages)))


# --- a payment's page


def test_a_payments_page_tells_who_was_told(viewer, accept, merchant):
    payment = accept()
    assert "nobody is to be told" in text(viewer.get(page_of(payment)))
    for _ in range(25):
        deliver(merchant, payment_id=payment.pk)
    shown = text(viewer.get(page_of(payment)))
    assert shown.count("m…@e….com") == 20
    assert "mustermann" not in shown
    everyone = re.search(r'href="([^"]+\?payment_id=[^"]+)"', shown)[1]
    assert len(viewer.get(everyone).context["cl"].result_list) == 25


def test_who_may_not_see_deliveries_sees_none_on_a_payments_page(accept, merchant):
    payment = accept()
    deliver(merchant, payment_id=payment.pk)
    assert "Who was told" not in text(person("pia", "view_payment").get(page_of(payment)))


# --- contacts and preferences


@pytest.fixture
def clerk(db):
    names = [f"{verb}_{noun}" for verb in ("add", "view", "change", "delete") for noun in ("contact", "preference")]
    return person("carl", *names, "view_merchant")


def contact(merchant, **others):
    return {"merchant": merchant.pk, "mode": "test", "user_id": "user-1", "email": "a@example.com", **WHY, **others}


def test_a_contact_is_kept_and_found_and_its_list_is_masked(clerk, merchant):
    add, listed = (reverse(f"admin:notifications_contact_{name}") for name in ("add", "changelist"))
    assert clerk.post(add, contact(merchant, phone="+4915123456789", language="de")).status_code == 302
    Contact.objects.create(merchant=merchant, mode="live", user_id="user-2")
    for term in ("user-1", "A@example.com", "+4915123456789"):
        assert [row.user_id for row in clerk.get(listed, {"q": term}).context["cl"].result_list] == ["user-1"]
    shown = text(clerk.get(listed))
    assert "a@example.com" not in shown
    assert "15123456" not in shown
    assert "a@example.com" in text(clerk.get(page_of(Contact.objects.get(user_id="user-1"))))


@pytest.mark.parametrize("wrong", [{"phone": "015123456789"}, {"email": "a@"}, {"language": "xx"}, {"mode": "both"}])
def test_a_contact_that_cannot_be_is_refused(clerk, merchant, wrong):
    text(clerk.post(reverse("admin:notifications_contact_add"), contact(merchant, **wrong)))
    assert not Contact.objects.exists()


def preference(merchant, **others):
    given = {"merchant": merchant.pk, "channel": "email", "audience": "merchant", "event_types": ["payment.unknown"]}
    return {**given, "addresses": "a@example.com\n\n b@example.com \na@example.com", **WHY, **others}


def test_a_preference_is_kept(clerk, merchant):
    assert clerk.post(reverse("admin:notifications_preference_add"), preference(merchant)).status_code == 302
    made = Preference.objects.get()
    assert (made.event_types, made.addresses) == (["payment.unknown"], ["a@example.com", "b@example.com"])
    shown = text(clerk.get(page_of(made)))
    assert "a@example.com\nb@example.com" in shown
    assert 'value="payment.unknown" id="id_event_types_4" checked' in shown
    assert "a@example.com" not in text(clerk.get(reverse("admin:notifications_preference_changelist")))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"audience": "payer", "addresses": ""}, "Payers are not told of payment.unknown."),
        ({"audience": "payer", "event_types": []}, "leave this empty"),
        ({"addresses": "a@example.com\nb@"}, "Not an address of this channel: b@."),
        ({"channel": "sms"}, "Not an address of this channel: a@example.com"),
        ({"addresses": "\n".join(f"a{number}@example.com" for number in range(11))}, "At most 10."),
        ({"event_types": ["payment.created"]}, "payment.created"),
    ],
    ids=["events", "payer", "mail", "phone", "many", "unknown"],
)
def test_a_preference_that_cannot_be_is_refused_with_the_mend(clerk, merchant, wrong, says):
    assert says in text(clerk.post(reverse("admin:notifications_preference_add"), preference(merchant, **wrong)))
    assert not Preference.objects.exists()


def test_a_merchant_shows_its_language_and_its_address(merchant):
    Merchant.objects.update(contact_email="ops@example.com", language="de")
    shown = text(person("max", "view_merchant").get(page_of(merchant)))
    assert "ops@example.com" in shown
    assert "Deutsch" in shown
