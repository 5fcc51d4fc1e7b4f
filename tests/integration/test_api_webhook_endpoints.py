"""`/webhook-endpoints`: each URL once, each secret shown once, and nobody reaches where none should."""

import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import time_machine
from django.db import connections
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from merchants.models import Merchant, Mode, Scope
from notifications import endpoints, errors
from notifications.models import Delivery, WebhookEndpoint
from notifications.outcomes import Delivered, Failed
from notifications.serializers import EndpointSerializer, EndpointWithSecretSerializer
from payments import messages
from payments.models import Payment
from tests.deliveries import HOOK
from tests.notifying import client_for, endpoint, settle, webhook
from tests.outbox import work

URL = "/api/v1/webhook-endpoints"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db
#: See tests/doors.py.
BOTH_DOORS = True


def send(client, method, path="", body=None):
    return getattr(client, method)(f"{URL}{path}", {} if body is None else body, content_type="application/json")


def ok(response, status=200):
    assert response.status_code == status, response.content
    return response.json() if response.content else None


def problem(response, status, code):
    assert response["Content-Type"] == "application/problem+json", response.content
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    return response.json()


def field_fault(response, pointer, code):
    faults = problem(response, 400, "invalid_request")["errors"]
    assert [(fault["pointer"], fault["code"]) for fault in faults] == [(pointer, code)]
    return faults[0]["detail"]


def make(client, **fields):
    return ok(send(client, "post", body={"url": HOOK, **fields}), 201)


def as_in_production(settings):
    settings.WEBHOOK_PRIVATE_TARGETS = False


# --- making


def test_an_endpoint_is_where_its_location_says(client, merchant):
    response = send(client, "post", body={"url": HOOK, "event_types": ["payment.failed"], "description": "the shop's"})
    made = ok(response, 201)
    assert response["Location"] == made["links"]["self"] == f"{URL}/{made['id']}"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert 24 <= len(b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    assert ok(client.get(response["Location"])) == made
    assert made["event_types"] == ["payment.failed"]
    assert (made["kind"], made["enabled"], made["mode"], made["url"]) == ("registered", True, "test", HOOK)


def test_the_answers_are_what_the_documentation_says(client):
    made = make(client)
    assert list(made) == list(EndpointWithSecretSerializer().fields)
    assert list(ok(client.get(f"{URL}/{made['id']}"))) == list(EndpointSerializer().fields)


def test_no_secret_is_ever_shown_again(client, merchant):
    made = make(client)
    rotated = ok(send(client, "post", f"/{made['id']}/rotate-secret"))
    ok(send(client, "post", f"/{made['id']}/test"), 202)
    row = WebhookEndpoint.objects.get()
    canaries = [made["secret"], rotated["secret"], row.secret, row.previous_secret]
    paths = [URL, f"{URL}/{row.pk}", f"{URL}/{row.pk}/deliveries", "/api/v1/webhook-deliveries"]
    paths.append(f"/api/v1/webhook-deliveries/{Delivery.objects.get().pk}")
    answers = [client.get(path) for path in paths]
    answers.append(send(client, "patch", f"/{row.pk}", {"description": "x"}))
    for answer in answers:
        ok(answer)
        assert not any(canary.removeprefix("whsec_") in answer.content.decode() for canary in canaries)
        assert "secret" not in answer.json()


def test_a_copy_of_the_database_signs_nothing(client):
    assert make(client)["secret"].removeprefix("whsec_") not in WebhookEndpoint.objects.get().secret


def test_one_event_type_named_twice_is_one(client):
    assert make(client, event_types=["payment.failed", "payment.failed"])["event_types"] == ["payment.failed"]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/url", "required"),
        ({"url": None}, "/url", "null"),
        ({"url": HOOK, "event_types": ["payment.exploded"]}, "/event_types/0", "invalid_choice"),
        ({"url": HOOK, "event_types": "payment.failed"}, "/event_types", "not_a_list"),
        ({"url": HOOK, "secret": "whsec_mine"}, "/secret", "unknown_field"),
        ({"url": HOOK, "enabled": False}, "/enabled", "unknown_field"),
        ({"url": HOOK, "kind": "other"}, "/kind", "invalid_choice"),
        ({"url": HOOK, "description": "x" * 201}, "/description", "max_length"),
        ({"url": "https://example.com/" + "x" * 500}, "/url", "max_length"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
def test_what_is_malformed_is_named_and_makes_nothing(client, body, pointer, code):
    faults = problem(send(client, "post", body=body), 400, "invalid_request")["errors"]
    assert (pointer.removesuffix("/0"), code) in [(it["pointer"].removesuffix("/0"), it["code"]) for it in faults]
    assert not WebhookEndpoint.objects.exists()


#: A sample only: the whole corpus is with the rules themselves.
HOSTILE = {
    "http://example.com/hook": "url_scheme",
    "ftp://example.com/hook": "url_scheme",
    "https://example.com:8443/hook": "url_port",
    "https://user:password@example.com/hook": "url_credentials",
    "https://example.com/hook#part": "url_fragment",
    "https://127.0.0.1/hook": "url_not_public",
    "https://169.254.169.254/latest/meta-data": "url_not_public",
    "https://[::ffff:10.0.0.1]/hook": "url_not_public",
    "https://localhost/hook": "url_not_public",
    "https://payments.internal/hook": "url_not_public",
    "https://2130706433/hook": "url_host",
    "https://0x7f.1/hook": "url_host",
    "https://exa mple.com/": "url_malformed",
    "/hook": "url_malformed",
}


@pytest.mark.parametrize(("url", "code"), HOSTILE.items(), ids=list(HOSTILE))
def test_a_url_that_must_not_be_called_is_refused_when_it_is_named(client, settings, url, code):
    as_in_production(settings)
    assert field_fault(send(client, "post", body={"url": url}), "/url", code).endswith(".")
    assert not WebhookEndpoint.objects.exists()
    made = make(client)
    field_fault(send(client, "patch", f"/{made['id']}", {"url": url}), "/url", code)
    assert WebhookEndpoint.objects.get().url == HOOK


@pytest.mark.parametrize("url", [url for url, code in HOSTILE.items() if code in {"url_not_public", "url_port"}])
def test_a_payments_own_url_is_no_back_door(post, settings, url):
    as_in_production(settings)
    faults = problem(post({"amount": 1, "webhook_url": url}), 400, "invalid_request")["errors"]
    assert [fault["pointer"] for fault in faults] == ["/webhook_url"]
    assert faults[0]["code"] in {HOSTILE[url], "invalid"}  # what is no URL at all is refused before
    assert not Payment.objects.exists()


def test_nor_is_that_of_a_message_and_nobody_is_shown_it(merchant, settings):
    as_in_production(settings)
    document = {"idempotency_key": "k", "amount": 1, "merchant": "shop", "webhook_url": "https://10.1.2.3/canary7"}
    with pytest.raises(ValidationError) as refused:
        messages.read(document)
    assert messages.tell(refused.value.detail).startswith("webhook_url: ")
    assert not any(part in messages.tell(refused.value.detail) for part in ("10.1.2.3", "canary7"))


@pytest.mark.parametrize("url", [HOOK, "https://shop.example:443/a?b=c", "https://8.8.8.8/hook"])
def test_a_public_url_is_taken_with_a_payment(post, settings, url):
    as_in_production(settings)
    ok(post({"amount": 1, "webhook_url": url}), 202)
    assert Payment.objects.get().webhook_url == url


def test_the_same_url_twice_is_refused(client):
    make(client)
    refusal = problem(send(client, "post", body={"url": HOOK}), 409, "webhook_endpoint_exists")
    assert "change that one" in refusal["detail"]
    assert WebhookEndpoint.objects.count() == 1


def test_a_deleted_endpoints_url_is_free_again(client):
    ok(send(client, "delete", f"/{make(client)['id']}"), 204)
    make(client)


@pytest.mark.django_db(transaction=True)
def test_ten_twins_make_one_endpoint(client):
    together = threading.Barrier(10)

    def one(_):
        try:
            together.wait(10)
            return send(client, "post", body={"url": HOOK}).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(one, range(10)))
    assert sorted(answers) == [201] + [409] * 9
    assert WebhookEndpoint.objects.count() == 1


def test_the_twenty_first_endpoint_is_refused(client, merchant):
    for number in range(20):
        endpoint(merchant, url=f"{HOOK}/{number}")
    problem(send(client, "post", body={"url": HOOK}), 409, "webhook_endpoints_limit")
    problem(send(client, "post", body={"url": f"{HOOK}/7"}), 409, "webhook_endpoint_exists")
    make(client_for(merchant, Mode.LIVE))  # each mode has its own
    make(client, kind="payment", url="https://shop.example")  # and those of payments are not told of everything
    ok(send(client, "delete", f"/{WebhookEndpoint.objects.filter(mode='test').first().pk}"), 204)
    make(client)


@pytest.mark.parametrize("url", ["https://shop.example", "https://SHOP.example/"])
def test_the_endpoint_of_payments_is_an_origin(client, merchant, url):
    made = make(client, url=url, kind="payment")
    assert (made["kind"], made["url"]) == ("payment", "https://shop.example")
    account = (merchant.pk, "test", "https://shop.example")
    [(_, found)] = endpoints.for_payments([account]).items()
    assert endpoints.secrets_of(found, now=timezone.now()) == [made["secret"]]


def test_the_endpoint_of_payments_has_no_path(client):
    detail = field_fault(send(client, "post", body={"url": HOOK, "kind": "payment"}), "/url", "url_origin")
    assert "https://shop.example." in detail
    made = make(client, url="https://shop.example", kind="payment")
    field_fault(send(client, "patch", f"/{made['id']}", {"url": "https://other.example.com"}), "/url", "url_fixed")


# --- whose it is


def everything(id_):
    """Method, path and body of all that can be asked of one endpoint."""
    return [
        ("get", f"/{id_}", None),
        ("patch", f"/{id_}", {"enabled": False}),
        ("delete", f"/{id_}", None),
        ("post", f"/{id_}/rotate-secret", None),
        ("post", f"/{id_}/test", None),
        ("get", f"/{id_}/deliveries", None),
        ("post", f"/{id_}/redeliver", {"since": "2026-01-01T00:00:00Z"}),
    ]


def test_nobody_reaches_another_merchants_endpoint_nor_one_of_the_other_mode(merchant, other_merchant):
    theirs = endpoint(merchant)
    webhook(theirs)
    before = WebhookEndpoint.objects.values().get()
    for stranger in (client_for(other_merchant), client_for(merchant, Mode.LIVE)):
        assert ok(stranger.get(URL))["results"] == []
        for method, path, body in everything(theirs.pk):
            problem(send(stranger, method, path, body), 404, "not_found")
    assert WebhookEndpoint.objects.values().get() == before
    assert Delivery.objects.get().state == "pending"


def test_merchants_may_have_the_same_url(merchant, other_merchant):
    make(client_for(merchant))
    make(client_for(other_merchant))
    make(client_for(merchant, Mode.LIVE))


def test_a_deleted_endpoint_is_found_no_more(client, merchant):
    gone = endpoint(merchant)
    ok(send(client, "delete", f"/{gone.pk}"), 204)
    assert ok(client.get(URL))["results"] == []
    for method, path, body in everything(gone.pk):
        problem(send(client, method, path, body), 404, "not_found")


@pytest.mark.parametrize("scopes", [[Scope.WEBHOOKS_READ], [Scope.PAYMENTS_WRITE, Scope.NOTIFICATIONS_WRITE]])
def test_a_key_without_the_scope_changes_nothing(merchant, scopes):
    weak, theirs = client_for(merchant, scopes=scopes), endpoint(merchant)
    requests = [("post", "", {"url": HOOK}), *everything(theirs.pk)]
    for method, path, body in requests:
        if method != "get" or Scope.WEBHOOKS_READ not in scopes:
            problem(send(weak, method, path, body), 403, "forbidden")
        else:
            ok(send(weak, method, path))
    assert WebhookEndpoint.objects.get().enabled


# --- looking


def test_the_list_is_newest_first_and_by_cursor(client, merchant):
    made = [str(endpoint(merchant, url=f"{HOOK}/{number}").pk) for number in range(5)]
    page = ok(client.get(URL, {"page_size": 2}))
    shown = [found["id"] for found in page["results"]]
    while page["next"]:
        rest = urlsplit(page["next"])
        page = ok(client.get(f"{rest.path}?{rest.query}"))
        shown += [found["id"] for found in page["results"]]
    assert shown == made[::-1]


def test_the_list_is_narrowed_down(client, merchant):
    first, second = endpoint(merchant), endpoint(merchant, url="https://shop.example", kind="payment")
    ok(send(client, "patch", f"/{first.pk}", {"enabled": False}))
    for query, expected in (
        ({"kind": "payment"}, second),
        ({"enabled": "true"}, second),
        ({"kind": "registered"}, first),
        ({"enabled": "false"}, first),
    ):
        assert [found["id"] for found in ok(client.get(URL, query))["results"]] == [str(expected.pk)]
    for query in ({"enabled": "maybe"}, {"kind": "x"}, {"url": HOOK}):
        problem(client.get(URL, query), 400, "invalid_request")


# --- changing


def test_what_a_change_leaves_out_stays(client):
    made = make(client, event_types=["payment.failed"], description="a")
    changed = ok(send(client, "patch", f"/{made['id']}", {"description": "b"}))
    assert changed == {**{name: made[name] for name in changed}, "description": "b"}
    assert ok(send(client, "patch", f"/{made['id']}", {"event_types": []}))["event_types"] == []
    assert ok(send(client, "patch", f"/{made['id']}", {}))["description"] == "b"


@pytest.mark.parametrize(
    ("body", "code"), [({"kind": "payment"}, "unknown_field"), ({"enabled": None}, "null"), ({"url": ""}, "blank")]
)
def test_what_cannot_be_changed_is_refused(client, body, code):
    field_fault(send(client, "patch", f"/{make(client)['id']}", body), f"/{next(iter(body))}", code)


def test_a_url_is_not_taken_from_another_endpoint(client, merchant):
    endpoint(merchant, url=f"{HOOK}/2")
    made = make(client)
    problem(send(client, "patch", f"/{made['id']}", {"url": f"{HOOK}/2"}), 409, "webhook_endpoint_exists")
    assert ok(client.get(f"{URL}/{made['id']}"))["url"] == HOOK


def test_disabling_cancels_what_is_pending_and_nothing_else(client, merchant):
    ours, other = endpoint(merchant), endpoint(merchant, url=f"{HOOK}/2")
    done = settle(webhook(ours), Delivered(status_code=200))
    pending, elsewhere = webhook(ours), webhook(other)
    changed = ok(send(client, "patch", f"/{ours.pk}", {"enabled": False}))
    assert not changed["enabled"]
    assert changed["disabled_at"]
    assert changed["disabled_reason"] == "disabled by its merchant"
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert states == {pending.pk: "canceled", elsewhere.pk: "pending", done.pk: "delivered"}
    assert "disabled" in Delivery.objects.get(pk=pending.pk).note


def test_a_disabled_endpoint_that_is_enabled_forgets_its_outage(client, merchant):
    ours = endpoint(merchant)
    settle(webhook(ours), Failed(detail="500", status_code=500))
    assert ok(client.get(f"{URL}/{ours.pk}"))["failing_since"]
    ok(send(client, "patch", f"/{ours.pk}", {"enabled": False}))
    enabled = ok(send(client, "patch", f"/{ours.pk}", {"enabled": True}))
    assert enabled["enabled"]
    assert not any(enabled[name] for name in ("disabled_at", "disabled_reason", "failing_since"))


def test_what_was_not_delivered_follows_the_url_to_where_it_was_mended(client, merchant):
    ours = endpoint(merchant)
    done, pending = settle(webhook(ours), Delivered(status_code=200)), webhook(ours)
    ok(send(client, "patch", f"/{ours.pk}", {"url": f"{HOOK}/new"}))
    urls = dict(Delivery.objects.values_list("pk", "recipient"))
    assert urls == {done.pk: HOOK, pending.pk: f"{HOOK}/new"}


def test_an_event_that_the_new_url_knows_of_is_not_told_there_twice(client, merchant):
    ours, former = endpoint(merchant), endpoint(merchant, url=f"{HOOK}/new")
    event_id = uuid4()
    webhook(former, event_id=event_id)
    webhook(ours, event_id=event_id)
    ok(send(client, "delete", f"/{former.pk}"), 204)
    ok(send(client, "patch", f"/{ours.pk}", {"url": f"{HOOK}/new"}))
    assert Delivery.objects.filter(event_id=event_id, recipient=f"{HOOK}/new").count() == 1


def test_an_event_told_at_two_former_urls_goes_to_the_new_one_once(client, merchant):
    ours, event_id = endpoint(merchant), uuid4()
    webhook(ours, event_id=event_id, recipient=f"{HOOK}/former")
    webhook(ours, event_id=event_id)
    ok(send(client, "patch", f"/{ours.pk}", {"url": f"{HOOK}/new"}))
    urls = Delivery.objects.order_by("id").values_list("recipient", flat=True)
    assert list(urls) == [f"{HOOK}/former", f"{HOOK}/new"]


def test_a_change_that_comes_too_late_does_not_bring_a_deleted_endpoint_back(merchant):
    gone = endpoint(merchant)
    endpoints.delete(endpoint=gone, now=timezone.now())
    with pytest.raises(errors.EndpointDeleted):
        endpoints.change(endpoint=gone, now=timezone.now(), enabled=True)
    for operation in (endpoints.rotate, lambda **named: endpoints.send_test(request_id="r", **named)):
        with pytest.raises(errors.EndpointDeleted):
            operation(endpoint=gone, now=timezone.now())
    first = WebhookEndpoint.objects.get().deleted_at
    endpoints.delete(endpoint=gone, now=timezone.now() + timedelta(hours=1))
    assert WebhookEndpoint.objects.get().deleted_at == first


def test_deleting_cancels_what_is_pending_and_keeps_the_record(client, merchant):
    ours = endpoint(merchant)
    pending = webhook(ours)
    ok(send(client, "delete", f"/{ours.pk}"), 204)
    shown = ok(client.get("/api/v1/webhook-deliveries", {"endpoint_id": ours.pk}))["results"]
    assert [(found["id"], found["state"]) for found in shown] == [(str(pending.pk), "canceled")]


# --- rotating


def test_for_a_day_both_secrets_sign_and_then_the_new_one_alone(client):
    made = make(client)
    with time_machine.travel(NOON, tick=False):
        rotated = ok(send(client, "post", f"/{made['id']}/rotate-secret"))
    assert rotated["previous_secret_until"] == "2026-11-22T12:00:00.000Z"
    row = WebhookEndpoint.objects.get()
    day = timedelta(hours=24)
    both = [rotated["secret"], made["secret"]]
    assert endpoints.secrets_of(row, now=NOON) == both
    assert endpoints.secrets_of(row, now=NOON + day - timedelta(milliseconds=1)) == both
    assert endpoints.secrets_of(row, now=NOON + day) == [rotated["secret"]]


def test_a_second_rotation_drops_the_oldest_secret_at_once(client):
    made = make(client)
    second, third = (ok(send(client, "post", f"/{made['id']}/rotate-secret"))["secret"] for _ in range(2))
    signing = endpoints.secrets_of(WebhookEndpoint.objects.get(), now=timezone.now())
    assert signing == [third, second]
    assert made["secret"] not in signing


# --- trying out


def test_a_test_event_is_sent_and_can_be_followed(client, merchant):
    ours = endpoint(merchant, event_types=["payment.failed"])
    response = send(client, "post", f"/{ours.pk}/test")
    sent = ok(response, 202)
    assert (sent["event_type"], sent["state"], sent["payment_id"]) == ("webhook_endpoint.test", "pending", None)
    assert ok(client.get(response["Location"]))["id"] == sent["id"]
    staged = work().get()
    assert (staged.queue, staged.payload) == ("webhooks", {"ids": [sent["id"]]})


def test_nothing_is_sent_to_a_disabled_endpoint(client, merchant):
    ours = endpoint(merchant)
    ok(send(client, "patch", f"/{ours.pk}", {"enabled": False}))
    problem(send(client, "post", f"/{ours.pk}/test"), 409, "webhook_endpoint_disabled")
    body = {"since": "2026-01-01T00:00:00Z"}
    problem(send(client, "post", f"/{ours.pk}/redeliver", body), 409, "webhook_endpoint_disabled")
    assert not Delivery.objects.exists()
    assert not work().exists()


# --- delivering again


@pytest.fixture
def told(merchant):
    """An endpoint with a delivery in each state, and one from before."""
    ours = endpoint(merchant)
    old = settle(webhook(ours), Failed(detail="500", final=True))
    Delivery.objects.filter(pk=old.pk).update(created_at=NOON - timedelta(days=1))
    failed = settle(webhook(ours), Failed(detail="500", final=True))
    delivered = settle(webhook(ours), Delivered(status_code=200))
    canceled = webhook(ours)
    Delivery.objects.filter(pk=canceled.pk).update(
        state="canceled", finished_at=NOON, revive_at=None, next_attempt_at=None
    )
    pending = webhook(ours)
    settle(webhook(endpoint(merchant, url=f"{HOOK}/2")), Failed(detail="500", final=True))
    ids = {"old": old, "failed": failed, "delivered": delivered, "canceled": canceled, "pending": pending}
    Delivery.objects.filter(pk__in=[it.pk for it in ids.values()]).exclude(pk=old.pk).update(created_at=NOON)
    work().delete()
    return ours, {name: it.pk for name, it in ids.items()}


def pending_of(ours):
    return set(Delivery.objects.filter(endpoint=ours, state="pending").values_list("pk", flat=True))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({}, {"failed", "canceled"}),
        ({"all": False}, {"failed", "canceled"}),
        ({"all": True}, {"failed", "canceled", "delivered"}),
    ],
)
def test_only_what_was_not_delivered_goes_out_again_unless_all_is_wanted(client, told, more, names):
    ours, ids = told
    body = {"since": "2026-11-21T13:00:00+01:00", **more}
    assert ok(send(client, "post", f"/{ours.pk}/redeliver", body), 202) == {"count": len(names)}
    assert pending_of(ours) == {ids[name] for name in names | {"pending"}}
    again = Delivery.objects.get(pk=ids["failed"])
    assert (again.tries, again.finished_at, again.note) == (0, None, "")
    assert work().count() == 1
    assert ok(send(client, "post", f"/{ours.pk}/redeliver", body), 202) == {"count": 0}


def test_a_time_after_everything_delivers_nothing(client, told):
    body = {"since": "9999-12-31T23:59:59Z", "all": True}
    assert ok(send(client, "post", f"/{told[0].pk}/redeliver", body), 202) == {"count": 0}
    assert not work().exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/since"),
        ({"since": "yesterday"}, "/since"),
        ({"since": None}, "/since"),
        ({"since": "2026-11-21T12:00:00Z", "every": True}, "/every"),
    ],
)
def test_nobody_delivers_everything_again_by_leaving_something_out(client, told, body, pointer):
    ours, ids = told
    faults = problem(send(client, "post", f"/{ours.pk}/redeliver", body), 400, "invalid_request")["errors"]
    assert [fault["pointer"] for fault in faults] == [pointer]
    assert pending_of(ours) == {ids["pending"]}


def test_every_refusal_is_explained_on_a_page(client):
    for kind in (
        errors.EndpointExists,
        errors.TooManyEndpoints,
        errors.EndpointDisabled,
        errors.EndpointDeleted,
        errors.DeliveryUnderWay,
    ):
        assert client.get(f"/problems/{kind.code}").status_code == 200


def test_no_limit_locks_out_another_merchant(merchant, other_merchant):
    for number in range(20):
        endpoint(merchant, url=f"{HOOK}/{number}")
    make(client_for(other_merchant))
    assert Merchant.objects.count() == 2
