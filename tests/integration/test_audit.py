"""What people do leaves an entry that nobody changes: who, what, when, why, from where, before and after."""

import csv
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import InternalError, ProgrammingError, connection, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from console import decisions
from console.audit_admin import MOST_PAGED, SUBJECT_PAGES, Bounded
from merchants import audit
from merchants.audit import Who, by_shell, difference
from merchants.confirmation import CONFIRMED_AT
from merchants.models import Approval, AuditEntry, Mode, User
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection
from notifications import contacts, endpoints
from notifications.models import Contact, Delivery, Preference
from payments import breaker
from payments.gateways.base import Unavailable
from payments.ids import uuid7
from payments.models import DeclineBlock, GatewayCircuit, Payment
from payments.operations import retry_now
from tests.claiming import claim_one, settle_one
from tests.dying import fail, letter
from tests.unmatched import entry_of, record

pytestmark = pytest.mark.django_db
#: See tests/doors.py.
BOTH_DOORS = True

LIST = reverse("admin:merchants_auditentry_changelist")
SCRIPT = "<script>alert(1)</script>"
ADA = Who("user:ada", AuditEntry.Via.CONSOLE, "192.0.2.1", "request-1")
WHY = {"reason": "the receiver is back"}


def signed_in(name="root", **fields):
    user = User.objects.create_user(name, is_staff=True, **{"is_superuser": True, **fields})
    client = Client(raise_request_exception=True)
    client.force_login(user)
    session = client.session
    session[CONFIRMED_AT] = time.time()
    session.save()
    return client


@pytest.fixture
def root(db):
    return signed_in()


def entry(**fields):
    return AuditEntry.objects.create(**{"actor": "user:ada", "via": "console", "action": "thing.done", **fields})


def actions():
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- the record itself


@pytest.mark.parametrize(
    "sql", ["UPDATE merchants_auditentry SET reason = 'another'", "DELETE FROM merchants_auditentry"]
)
def test_no_entry_is_ever_changed_or_deleted_not_even_by_raw_sql(sql):
    entry()
    with pytest.raises((ProgrammingError, InternalError)), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
    assert AuditEntry.objects.get().reason == ""


@pytest.mark.django_db(transaction=True)
def test_no_entry_is_written_without_what_it_tells_of(merchant):
    with pytest.raises(AssertionError, match="transaction of what it tells of"):
        audit.record(ADA, "thing.done")
    with transaction.atomic():
        audit.record(ADA, "thing.done", merchant=merchant)
        transaction.set_rollback(True)  # as when the change fails
    assert not AuditEntry.objects.exists()


def test_only_what_differs_is_told():
    assert difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ({"b": 2}, {"b": 3, "c": 4})
    assert difference({"a": 1}, {"a": 1}) == ({}, {})
    assert difference(None, {"a": 1}) == (None, {"a": 1})


# --- what leaves an entry


def test_the_api_leaves_who_what_and_from_where_and_never_a_secret(client, merchant):
    headers = {"X-Request-ID": "request-7"}
    url = "/api/v1/webhook-endpoints"
    made = client.post(
        url, {"url": "https://hooks.example.com/in?token=hush"}, content_type="application/json", headers=headers
    ).json()
    one = f"{url}/{made['id']}"
    rotated = client.post(f"{one}/rotate-secret", headers=headers)
    if rotated.status_code == 404:
        rotated = client.post(f"{one}/rotate", headers=headers)
    assert rotated.status_code == 200, rotated.content
    client.patch(one, {"enabled": False, "description": "d"}, content_type="application/json")
    client.patch(one, {"enabled": True}, content_type="application/json")
    client.patch(one, {"enabled": True}, content_type="application/json")  # changes nothing
    client.delete(one)
    client.delete(one)  # it is gone
    assert actions() == [f"webhook_endpoint.{done}" for done in
                         ("created", "secret_rotated", "disabled", "enabled", "deleted")]  # fmt: skip
    first = AuditEntry.objects.order_by("id").first()
    assert first.actor.startswith("key:")
    assert (first.via, first.address, first.request_id) == ("api", "127.0.0.1", "request-7")
    assert (first.subject, first.merchant) == (f"webhook_endpoint:{made['id']}", merchant)
    disabled = AuditEntry.objects.get(action="webhook_endpoint.disabled")
    assert disabled.before == {"description": "", "enabled": True}
    assert disabled.after == {"description": "d", "enabled": False}
    kept = json.dumps(list(AuditEntry.objects.values("before", "after", "reason")), default=str)
    for secret in ("hush", made["secret"], rotated.json()["secret"], "whsec_"):
        assert secret not in kept


def test_no_entry_holds_personal_data_of_payers(merchant):
    who = {"merchant": merchant, "mode": Mode.TEST, "user_id": "canary@example.com", "who": ADA}
    contacts.put(**who, fields={"email": "canary@example.com", "phone": "+4915123456789", "language": "de"})
    contacts.put(**who, fields={"email": "other-canary@example.com", "phone": "", "language": "de"})
    assert contacts.forget(**who)
    assert not contacts.forget(**who)
    assert actions() == ["contact.created", "contact.changed", "contact.deleted"]
    kept = json.dumps(list(AuditEntry.objects.values("subject", "before", "after")), default=str)
    assert "canary" not in kept
    assert "123456" not in kept
    changed = AuditEntry.objects.get(action="contact.changed")
    assert changed.before == {"email": "c…@e….com", "phone": "+49…789"}


def test_preferences_are_told_with_masked_addresses(client):
    url = "/api/v1/notification-preferences"
    before = client.get(url).json()
    assert client.put(url, before, content_type="application/json").status_code == 200
    assert actions() == []
    client.put(url, {"language": "de", "contact_email": "ops-canary@example.com"}, content_type="application/json")
    (told,) = AuditEntry.objects.all()
    assert told.after == {"language": "de", "contact_email": "o…@e….com"}


def test_a_payment_taken_up_now_is_told_only_if_it_was(accept):
    payment = accept()
    assert not retry_now(payment_id=payment.pk, who=ADA, reason="r")
    assert actions() == []


def test_the_switch_of_a_gateway_is_told_with_what_it_was(db):
    breaker.pause("sandbox", reason="maintenance", who=ADA)
    assert breaker.resume("sandbox", who=by_shell("bob"), reason="done")
    assert not breaker.resume("sandbox", who=ADA)
    paused, resumed = AuditEntry.objects.order_by("id")
    assert (paused.action, paused.reason, paused.subject) == ("gateway.paused", "maintenance", "gateway:sandbox")
    assert (resumed.actor, resumed.before) == ("shell:bob", {"paused_by": "ada", "pause_reason": "maintenance"})


def test_commands_leave_their_entry(merchant):
    call_command("prune", stdout=io.StringIO())
    endpoints.create(merchant=merchant, mode=Mode.TEST, url="https://hooks.example.com/in")
    call_command("reencrypt_secrets", stdout=io.StringIO())
    assert actions() == ["records.pruned", "webhook_endpoint.created", "webhook_secrets.reencrypted"]
    assert AuditEntry.objects.latest("id").after == {"endpoints": 1, "stuck": 0}
    assert {row.via for row in AuditEntry.objects.exclude(actor="system")} == {"command"}


def test_payments_of_the_api_are_told_by_their_own_events_alone(post):
    assert post({"amount": "10.00"}).status_code == 202
    assert not AuditEntry.objects.exists()


# --- every page of the console that changes something


def dead(accept):
    fail(accept(key=f"k-{uuid7()}"))


def asked(accept):
    for _ in range(2):
        fail(accept(key=f"k-{uuid7()}"))
    who = Who("user:ada", "console")
    return decisions.decide(Selection(), Resolution.Action.REPLAY, reason="r", rate=None, who=who)


def gateway():
    return GatewayCircuit.objects.get_or_create(gateway="sandbox")[0].pk


def paused():
    breaker.pause(gateway(), reason="r", who=ADA)
    return "sandbox"


def block(merchant):
    now = timezone.now()
    until = now + timedelta(hours=1)
    return DeclineBlock.objects.create(merchant=merchant, mode="test", declines=9, began_at=now, ends_at=until).pk


def orphan(merchant):
    return record(entry_of(merchant)).pk


@pytest.fixture
def scene(accept, merchant, settings, root):
    """Address -> what is posted to it, and what its entry is called."""
    settings.FOUR_EYES_ABOVE = {"*": "15"}

    def resolution(state):
        letter()
        made = Resolution.objects.create(
            action="replay", reason="r", decided_by="b", selection={}, state=state,
            revive_at=timezone.now() if state == "running" else None,
        )  # fmt: skip
        DeadLetter.objects.filter(resolution=None).update(resolution=made)
        return made.pk

    def endpoint(**fields):
        url = f"https://hooks.example.com/{uuid7()}"
        return endpoints.create(merchant=merchant, mode=Mode.TEST, url=url, **fields)[0]

    def disabled():
        made = endpoint()
        endpoints.change(endpoint=made, enabled=False, now=timezone.now())
        return made.pk

    def delivery():
        now = timezone.now()
        return Delivery.objects.create(
            merchant=merchant, mode="test", event_id=uuid7(), event_type="payment.succeeded", channel="email",
            recipient="a@example.com", occurred_at=now, state="failed", finished_at=now, tries=1,
        ).pk  # fmt: skip

    def proposal():
        dead(accept)
        page = root.get(reverse("admin:messaging_deadletter_preview"), {"action": "replay"})
        return {"proposal": page.context["proposal"].sign(), **WHY}

    def contact():
        return Contact.objects.create(merchant=merchant, mode="test", user_id="u-1", email="a@example.com").pk

    def preference():
        return Preference.objects.create(merchant=merchant, channel="email", audience="payer", event_types=[]).pk

    about = {"merchant": merchant.pk, "mode": "test", "user_id": "u-1", "email": "b@example.com", **WHY}
    wish = {"merchant": merchant.pk, "channel": "email", "audience": "payer", "event_types": ["payment.failed"], **WHY}
    new = {"merchant": merchant.slug, "mode": "test", "kind": "registered", "url": "https://h.example.com/in", **WHY}
    since = {"since": "2026-01-01T00:00", **WHY}
    hook = "notifications_webhookendpoint"
    return {
        "messaging_deadletter_preview": (None, proposal, "dead_letters.replay"),
        "messaging_resolution_stop": (lambda: resolution("running"), WHY, "resolution.stopped"),
        "messaging_resolution_resume": (lambda: resolution("stopped"), WHY, "resolution.resumed"),
        "merchants_approval_approve": (lambda: asked(accept).pk, WHY, "approval.approved"),
        "merchants_approval_reject": (lambda: asked(accept).pk, WHY, "approval.rejected"),
        "merchants_approval_withdraw": (lambda: by_root(asked(accept)), WHY, "approval.withdrawn"),
        "merchants_auditentry_export": (None, WHY, "audit.exported"),
        "payments_payment_export": (None, WHY, "payments.exported"),
        "payments_gatewaycircuit_pause": (gateway, WHY, "gateway.paused"),
        "payments_gatewaycircuit_resume": (paused, WHY, "gateway.resumed"),
        "payments_unmatchedcharge_adopt": (lambda: orphan(merchant), WHY, "unmatched_charge.adopted"),
        "payments_unmatchedcharge_refund": (lambda: orphan(merchant), WHY, "unmatched_charge.refund_requested"),
        "payments_unmatchedcharge_dismiss": (lambda: orphan(merchant), WHY, "unmatched_charge.dismissed"),
        "payments_declineblock_lift": (lambda: block(merchant), WHY, "decline_block.lifted"),
        "notifications_delivery_redeliver": (delivery, WHY, "delivery.redelivered"),
        f"{hook}_add": (None, new, "webhook_endpoint.created"),
        f"{hook}_rotate": (lambda: endpoint().pk, WHY, "webhook_endpoint.secret_rotated"),
        f"{hook}_disable": (lambda: endpoint().pk, WHY, "webhook_endpoint.disabled"),
        f"{hook}_enable": (disabled, WHY, "webhook_endpoint.enabled"),
        f"{hook}_test": (lambda: endpoint().pk, {}, "webhook_endpoint.test_sent"),
        f"{hook}_redeliver": (lambda: endpoint().pk, since, "webhook_endpoint.redelivered"),
        "notifications_contact_add": (None, about, "contact.created"),
        "notifications_contact_change": (contact, about, "contact.changed"),
        "notifications_contact_delete": (contact, {"post": "yes", **WHY}, "contact.deleted"),
        "notifications_preference_add": (None, wish, "preference.created"),
        "notifications_preference_change": (preference, wish, "preference.changed"),
        "notifications_preference_delete": (preference, {"post": "yes", **WHY}, "preference.deleted"),
    }


def by_root(approval):
    """The same, as if root had asked for it: rows cannot be given to somebody else."""
    values = {"action": approval.action, "payload": approval.payload, "summary": "s", "reason": "r"}
    return Approval.objects.create(**values, requested_by="root", expires_at=approval.expires_at).pk


def own_pages():
    """The console's pages of these rooms that are not merely Django's lists of what nobody edits."""
    for resolver in (found for found in get_resolver().url_patterns if getattr(found, "app_name", "") == "admin"):
        yield from names(resolver)


def names(resolver):
    for found in resolver.url_patterns:
        if isinstance(found, URLResolver):
            yield from names(found)
        elif isinstance(found, URLPattern) and found.name:
            yield found.name


def rows_that_are_edited(root_request):
    """The names of Django's own pages at which staff can add, change or delete."""
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        if model_admin.has_add_permission(root_request):
            yield f"{name}_add"
        if model_admin.has_change_permission(root_request):
            yield f"{name}_change"
        if model_admin.has_delete_permission(root_request):
            yield f"{name}_delete"


def test_every_page_of_these_rooms_that_changes_something_leaves_an_entry(scene, root, rf):
    """A new page without a row in the scene fails here."""
    request = rf.get("/")
    request.user = User.objects.get(username="root")
    standard = re.compile(r".*_(add|change|delete|changelist|history)$")
    rooms = re.compile(r"(messaging|payments|notifications)_|merchants_(approval|auditentry)_")
    own = {name for name in own_pages() if not standard.match(name)} | set(rows_that_are_edited(request))
    assert {name for name in own if rooms.match(name)} == set(scene)
    for name, (make, given, action) in scene.items():
        arguments = [] if make is None else [make()]
        body = given() if callable(given) else given
        count = AuditEntry.objects.filter(action=action).count()
        answer = root.post(reverse(f"admin:{name}", args=arguments), body)
        assert answer.status_code in {200, 302}, name
        assert AuditEntry.objects.filter(action=action).count() == count + 1, name
        told = AuditEntry.objects.filter(action=action).latest("id")
        assert (told.actor, told.via, told.address) == ("user:root", "console", "127.0.0.1"), name
        if "reason" in body:
            assert told.reason == WHY["reason"], name
        if action.endswith(("contact.changed", "contact.created", "preference.created", "preference.changed")):
            Contact.objects.all().delete(), Preference.objects.all().delete()


def test_no_page_does_anything_without_a_reason(scene, root):
    for name, (make, given, action) in scene.items():
        body = given() if callable(given) else given
        if "reason" not in body:
            continue
        arguments = [] if make is None else [make()]
        before = AuditEntry.objects.filter(action=action).count()
        for reason in ("", "  ", "...", "x" * 501):
            root.post(reverse(f"admin:{name}", args=arguments), {**body, "reason": reason})
        assert AuditEntry.objects.filter(action=action).count() == before, name
        Contact.objects.all().delete(), Preference.objects.all().delete()


@pytest.mark.parametrize("reason", ["", "the gateway is back"])
def test_actions_of_lists_want_a_reason_too(root, accept, merchant, reason):
    payment = accept()
    settle_one(claim_one(payment.pk), Unavailable(detail="503"))
    url = reverse("admin:payments_payment_changelist")
    body = {"action": "take_up_now", "_selected_action": [str(payment.pk)], "reason": reason}
    shown = root.post(url, body, follow=True).content.decode()
    assert ("Say why" in shown) == (not reason)
    assert [row.reason for row in AuditEntry.objects.all()] == [reason] * bool(reason)
    assert Payment.objects.get().status == "processing"


# --- the pages


def test_the_list_is_narrowed_down_by_who_what_whose_and_when(root, merchant):
    rows = [
        entry(actor="user:ada", action="gateway.paused", at=datetime(2026, 1, 1, 12, tzinfo=UTC)),
        entry(actor="key:sk_test_abc", action="webhook_endpoint.created", merchant=merchant, request_id="request-9"),
        entry(actor="shell:ada", action="gateway.resumed", subject="gateway:sandbox"),
    ]
    ids = [row.pk for row in rows]

    def shown(**query):
        return sorted(row.pk for row in root.get(LIST, query).context["cl"].result_list)

    assert shown() == ids
    assert shown(actor="ada") == [ids[0], ids[2]]
    assert shown(action="gateway.") == [ids[0], ids[2]]
    assert shown(merchant="shop") == shown(q="request-9") == [ids[1]]
    assert shown(before="2026-01-02") == [ids[0]]
    assert shown(since="2026-01-02", actor="user:ada") == []
    assert shown(q="sandbox") == shown(q="gateway:sandbox") == [ids[2]]
    for nonsense in ({"since": "yesterday"}, {"before": "2026-13-01"}, {"actor": "\0"}, {"q": "\0"}):
        root.get(LIST, nonsense)


def test_an_entry_shows_before_and_after_and_nothing_of_it_is_markup(root):
    row = entry(
        actor=SCRIPT, action="x", subject=f"payment:{SCRIPT}", reason=SCRIPT, before={"a": SCRIPT, SCRIPT: 1},
        after={"a": "new", "list": [SCRIPT]},
    )  # fmt: skip
    for url in (LIST, reverse("admin:merchants_auditentry_change", args=[row.pk])):
        assert SCRIPT not in root.get(url).content.decode()
    page = root.get(reverse("admin:merchants_auditentry_change", args=[row.pk])).content.decode()
    assert "<td>new</td>" in page
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_an_entry_leads_to_its_subject_and_a_subject_to_its_entries(root, accept):
    payment = accept()
    entry(subject=f"payment:{payment.pk}")
    page = reverse("admin:payments_payment_change", args=[payment.pk])
    assert page in root.get(LIST).content.decode()
    way = re.search(r'href="([^"]+auditentry/\?q=[^"]+)"', root.get(page).content.decode())[1]
    assert len(root.get(way).context["cl"].result_list) == 1


@pytest.mark.parametrize("kind", sorted(SUBJECT_PAGES))
def test_every_kind_of_subject_has_a_page(kind):
    assert reverse(SUBJECT_PAGES[kind], args=["1"])


@pytest.mark.parametrize("count", [1, 40])
def test_a_longer_list_costs_no_more_queries(root, merchant, django_assert_max_num_queries, count):
    for _ in range(count):
        entry(merchant=merchant)
    with django_assert_max_num_queries(9):
        root.get(LIST)


def test_no_list_counts_all_entries_of_years(django_assert_num_queries):
    with django_assert_num_queries(1) as queries:
        assert Bounded(AuditEntry.objects.order_by("-id"), 50).count == 0
    assert f"LIMIT {MOST_PAGED}" in queries.captured_queries[0]["sql"]


def test_nobody_edits_an_entry_and_only_who_may_sees_them(root):
    row = entry()
    for name in ("change", "delete"):
        url = reverse(f"admin:merchants_auditentry_{name}", args=[row.pk])
        assert root.post(url, {"reason": "x", "post": "yes"}).status_code == 403
    assert root.get(reverse("admin:merchants_auditentry_add")).status_code == 403
    assert signed_in("plain", is_superuser=False).get(LIST).status_code == 403


def test_the_csv_has_exactly_what_is_filtered(root):
    entry(action="a.one", reason="=cmd()"), entry(action="b.two")
    url = f"{reverse('admin:merchants_auditentry_export')}?action=a."
    body = b"".join(root.post(url, {"reason": "for the auditor"}).streaming_content).decode("utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(body, newline=""))
    assert (row["action"], row["reason"]) == ("a.one", "'=cmd()")
    assert AuditEntry.objects.latest("id").after == {"filter": {"action": "a."}, "rows": 1}
