"""Each process works with its own role of PostgreSQL, and none can do what is not its business."""

import io
import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import time_machine
from axes.models import AccessAttempt
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.module_loading import import_string
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from console import decisions
from merchants import approvals, audit, buckets
from merchants.models import AuditEntry, Bucket, Counter, LoginSession, Mode, Role, User
from merchants.second_factor import digest
from messaging import heartbeats, relay, resolutions, subscribers
from messaging.consumer import Delivery as Message
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.publisher import Published
from messaging.selections import Selection
from notifications import messages
from notifications.models import Delivery, Preference
from notifications.outcomes import Delivered, Failed
from payments import intake, unmatched_charge_jobs, velocity
from payments.models import DeclineBlock, Payment, UnmatchedCharge
from payments.operations import (
    adopt_charge,
    look_up_now,
    process_payments,
    refund_unmatched_charge,
    request_refund,
)
from payments.velocity import blocks_in_force
from tests import matrix
from tests.console import code_of
from tests.database_roles import (
    LETTERS,
    PREFIX,
    ROLES,
    access,
    acting_as,
    columns_table,
    drop_roles,
    lines,
    psql,
    run_file,
    table,
)
from tests.deliveries import attempt
from tests.dying import fail, letter
from tests.integration.test_admin_people import REASON, desk, save, saved
from tests.logins import PASSWORD, ask, call, log_out, refresh, tokens
from tests.notifying import endpoint, message, webhook
from tests.unmatched import charge_at, entry_of, record

pytestmark = pytest.mark.django_db
#: See tests/doors.py.
BOTH_DOORS = True


@pytest.fixture(scope="module", autouse=True)
def _roles(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        run_file()
        yield
        drop_roles()


def tables():
    """Every table that there is."""
    with connection.cursor() as cursor:
        return {row.name for row in connection.introspection.get_table_list(cursor) if row.type == "t"}


def refused(statement):
    """Whether the database says that one may not."""
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    return True


# --- the file


def test_no_table_is_forgotten_in_the_file():
    missing, stale = tables() - access().keys(), access().keys() - tables()
    assert not missing, f"Say in deploy/postgres/roles.sql who may do what with: {sorted(missing)}"
    assert not stale, f"Take out of deploy/postgres/roles.sql: {sorted(stale)}"


#: All privileges on tables, and on columns by themselves.
GIVEN = """
    SELECT relname, '', grantee::regrole::text, privilege_type FROM pg_class, aclexplode(relacl)
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND grantee <> relowner
    UNION ALL
    SELECT relname, attname, grantee::regrole::text, privilege_type
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, aclexplode(attacl)
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND grantee <> relowner
"""


def test_the_database_gives_what_the_file_says_and_nothing_more():
    with connection.cursor() as cursor:
        cursor.execute(GIVEN)
        given = set(cursor.fetchall())
    said = {
        (line.table, column, f"{PREFIX}_{role}", LETTERS[letter])
        for line in lines()
        for role, letters in line.who.items()
        for letter in letters
        for column in line.columns or [""]
    }
    assert given == said


def test_no_line_of_the_file_lets_a_role_change_whole_rows():
    assert [line for line in lines() if not line.columns and any("U" in letters for letters in line.who.values())] == []


def test_the_file_can_be_run_again_and_takes_back_what_it_did_not_give():
    # By psql, as the file itself: what this transaction would grant, the file would wait for.
    psql(
        f"--command=GRANT DELETE ON payments_payment TO {PREFIX}_worker",
        f"--command=GRANT UPDATE (amount) ON payments_payment TO {PREFIX}_worker",
        f"--command=GRANT UPDATE ON SEQUENCE merchants_user_id_seq TO {PREFIX}_web",
        f"--command=GRANT CREATE ON SCHEMA public TO {PREFIX}_web",
    )
    run_file()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT has_schema_privilege('{PREFIX}_web', 'public', 'CREATE')")
        assert cursor.fetchone() == (False,)
        cursor.execute(f"SELECT has_sequence_privilege('{PREFIX}_web', 'merchants_user_id_seq', 'UPDATE')")
        assert cursor.fetchone() == (False,)
    test_the_database_gives_what_the_file_says_and_nothing_more()


def test_no_password_is_on_a_command_line_or_in_the_file():
    run_file(PAYMENTS_WEB_PASSWORD="it's a \\ secret")
    given = connection.settings_dict
    login = {"host": given["HOST"], "port": given["PORT"], "dbname": given["NAME"]}
    with psycopg.connect(**login, user=f"{PREFIX}_web", password="it's a \\ secret") as session:
        assert session.execute("SELECT count(*) FROM payments_payment").fetchone() is not None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**login, user=f"{PREFIX}_worker", password="it's a \\ secret")


def test_people_read_what_the_file_says():
    documented = (Path(django_settings.BASE_DIR) / "docs" / "database-roles.md").read_text()
    assert table() in documented
    assert columns_table() in documented


# --- what each must be able to do


@pytest.fixture
def quick(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def test_web_serves_the_api_and_logs_people_in(client, merchant, quick):
    user = User.objects.create_user("ada", password="correct-horse-battery-staple")
    user.memberships.create(merchant=merchant, role=Role.ADMIN)
    send = {"content_type": "application/json"}
    with acting_as("web"):
        key = {"Idempotency-Key": "k-1"}
        made = client.post("/api/v1/payments", {"amount": 1, "user_id": "u"}, headers=key, **send)
        assert made.status_code == 202, made.content
        assert client.post("/api/v1/payments", {"amount": 1, "user_id": "u"}, headers=key, **send).status_code == 202
        hook = client.post("/api/v1/webhook-endpoints", {"url": "https://shop.example/hook"}, **send)
        assert hook.status_code == 201, hook.content
        path = f"/api/v1/webhook-endpoints/{hook.json()['id']}"
        assert client.patch(path, {"enabled": False}, **send).status_code == 200
        assert client.post(f"{path}/rotate-secret").status_code in {200, 409}
        assert client.delete(path).status_code == 204
        assert client.put("/api/v1/contacts/u", {"email": "u@example.com"}, **send).status_code == 201
        assert client.delete("/api/v1/contacts/u").status_code == 204
        assert client.put("/api/v1/notification-preferences", {"language": "de"}, **send).status_code == 200
        for name, row in matrix.rows().items():
            if name[1] == "GET" and row.acts_on == "-" and row.scope in matrix.scopes_of("key"):
                address = next(address for address in matrix.api() if address.name == name[0])
                assert client.get(address.at()).status_code == 200, name
        asked = {"username": "ada", "password": "correct-horse-battery-staple"}
        pair = Client().post("/api/v1/token", asked, **send)
        assert pair.status_code == 200, pair.content
        assert Client().post("/api/v1/token/refresh", {"refresh": pair.json()["refresh"]}, **send).status_code == 200
        assert refresh(Client(), pair.json()["refresh"]).status_code == 401  # a second time: the session is ended
        assert Client().get("/health").status_code == 200
        assert Client().get("/metrics").status_code == 200


def test_web_makes_keys_asks_for_second_factors_and_locks_out(person, merchant, anybody, settings):
    settings.LIMITS = dict.fromkeys(settings.LIMITS, "1000000/s")
    ada = person({merchant: Role.ADMIN})
    secret = TOTPDevice.objects.create(user=ada, name="app", confirmed=True)
    StaticDevice.objects.create(user=ada, name="recovery codes", confirmed=True).token_set.create(
        token=digest("abcdef")
    )
    with acting_as("web"):
        assert ask(anybody).status_code == 401
        assert ask(anybody, otp="abcdef").status_code == 200
        pair = tokens(anybody, otp=code_of(secret))
        caller = Client(headers={"authorization": f"Bearer {pair['access']}"})
        made = caller.post("/api/v1/api-keys", {"name": "n"}, content_type="application/json")
        assert made.status_code == 201, made.content
        assert call(anybody, made.json()["key"]).status_code == 200
        path = f"/api/v1/api-keys/{made.json()['id']}"
        assert caller.post(f"{path}/revoke", {}, content_type="application/json").status_code == 200
        assert log_out(anybody, pair["refresh"]).status_code == 204
        assert [ask(anybody, password="wrong").status_code for _ in range(5)] == [401] * 4 + [429]


def test_web_counts_what_is_limited(client, post, merchant, settings):
    merchant.creation_burst, merchant.creation_rate = 1, 0.001
    merchant.save()
    settings.LIMITS = {**settings.LIMITS, "reads": "1/d", "strangers": "1/d"}
    with acting_as("web"):
        assert [post({"amount": 1}, key=key).status_code for key in ("k-1", "k-2", "k-1")] == [202, 429, 202]
        assert [client.get("/api/v1/payments").status_code for _ in range(2)] == [200, 429]
        assert [Client().get("/api/v1/payments").status_code for _ in range(2)] == [401, 429]


@pytest.mark.django_db(transaction=True)
def test_declines_that_the_worker_counts_block_a_payer_at_web_and_intake(accept, merchant, sandbox, settings, post):
    settings.DECLINES_PER_PAYER = settings.DECLINES_PER_MERCHANT = 1
    payment = accept(payment_method="pm_declined", user_id="u")
    with acting_as("worker"):
        process_payments(payment_ids=[payment.pk])
    blocks_in_force.forget()
    body = {"idempotency_key": "k", "amount": "1.00", "merchant": merchant.slug, "user_id": "u"}
    with acting_as("web"):
        assert post({"amount": 1, "user_id": "u"}, key="k-2").json()["code"] == "too_many_declines"
    with acting_as("intake"):
        intake.receive(told(json.dumps(body).encode()))
    assert DeadLetter.objects.get().cause == "too_many_declines"
    block = DeclineBlock.objects.get(user_id="u")
    with acting_as("web"):
        who = audit.Who("user:ada", AuditEntry.Via.CONSOLE)
        assert velocity.lift(block_id=block.pk, reason="r", who=who, now=timezone.now())


@pytest.mark.django_db(transaction=True)
def test_web_has_two_people_agree_and_the_worker_carries_it_out(accept, sandbox, settings):
    settings.FOUR_EYES_ABOVE = {"*": "1"}
    fail(accept())
    ada, bob = (audit.Who(f"user:{name}", AuditEntry.Via.CONSOLE) for name in ("ada", "bob"))
    with acting_as("web"):
        asked = decisions.decide_and_begin(Selection(), Resolution.Action.REPLAY, reason="r", rate=None, who=ada)
        approvals.approve(approval_id=asked.pk, who=bob, may=lambda _permission: True, reason="r")
    with acting_as("worker"):
        process_payments(payment_ids=[Payment.objects.get().pk])
    assert Payment.objects.get().status == "succeeded"


@pytest.mark.django_db(transaction=True)
def test_charges_without_a_payment_are_found_by_cron_and_the_worker_and_decided_by_web(merchant, sandbox, accept):
    adopted, refunded = charge_at(sandbox).reference, charge_at(sandbox, order_id=None).reference
    with acting_as("cron"), pytest.raises(SystemExit):
        call_command("reconcile", gateway="sandbox", since="1h", until=later().isoformat(), stdout=io.StringIO())
    ids = dict(UnmatchedCharge.objects.values_list("reference", "pk"))
    who = audit.Who("user:ada", AuditEntry.Via.CONSOLE)
    with acting_as("web"):
        adopt_charge(charge_id=ids[adopted], who=who, reason="r")
        request_refund(charge_id=ids[refunded], who=who, reason="r")
    with acting_as("worker"):
        refund_unmatched_charge(charge_id=ids[refunded])
    assert set(UnmatchedCharge.objects.values_list("state", flat=True)) == {"adopted", "refunded"}


@pytest.mark.django_db(transaction=True)
def test_the_relay_closes_what_a_payment_has_taken_and_the_worker_looks_up_earlier(merchant, sandbox, accept):
    payment = accept(payment_method="pm_error_500")
    process_payments(payment_ids=[payment.pk])
    with acting_as("cron"):
        call_command("reconcile", gateway="sandbox", since="1h", until=later().isoformat(), stdout=io.StringIO())
    with acting_as("worker"):
        look_up_now(payment_id=payment.pk)
        process_payments(payment_ids=[payment.pk])
    record(sandbox.server.journal.entries[0])
    with acting_as("relay"):
        assert unmatched_charge_jobs.close_matched() == 1
        assert unmatched_charge_jobs.queue_overdue_refunds() == 0
    assert UnmatchedCharge.objects.get().state == "matched"


def later():
    """After what the gateway has decided just now."""
    return timezone.now() + timedelta(seconds=1)


@pytest.mark.django_db(transaction=True)
def test_the_notifier_gives_up_on_an_endpoint_that_is_gone(merchant):
    hook = webhook(endpoint(merchant))
    with acting_as("notifier"):
        assert attempt(hook, Failed(detail="410", gone=True), now=timezone.now())
    assert AuditEntry.objects.filter(action="webhook_endpoint.disabled").exists()


def test_web_serves_every_page_of_the_console(accept, merchant, quick):
    accept()
    letter()
    message(merchant)
    webhook(endpoint(merchant))
    record(entry_of(merchant))
    Preference.objects.create(merchant=merchant, channel="email", audience="payer")
    boss = User.objects.create_superuser("boss", password="correct-horse-battery-staple")
    made = {model: model._default_manager.order_by("pk").first() for model in apps.get_models()}
    client = Client(raise_request_exception=False)
    wrong = {}
    with acting_as("web"):
        client.force_login(boss)
        for address in matrix.console():
            model = next((model for model in made if model._meta.model_name in address.path.split("/")), None)
            ids = {name: made[model].pk if made.get(model) else 1 for name in address.arguments}
            ids |= {"app_label": "payments", "url": "nothing", "rest": "1"}
            if address.name != "logout" and client.get(address.at(**ids)).status_code >= 500:
                wrong[address.path] = client.get(address.at(**ids)).status_code
    assert wrong == {}


def test_web_changes_what_staff_change_in_the_console(person, merchant):
    root = desk(person({}, name="root", is_staff=True, is_superuser=True))
    ada = person({merchant: Role.ADMIN})
    passwords = {"password1": "correct-horse-battery", "password2": "correct-horse-battery", "usable_password": "true"}
    with acting_as("web"):
        saved(save(root, ada, email="ada@example.com", is_staff="on"))
        saved(save(root, merchant, name="Another shop", amount_ceilings='{"EUR": "10"}'))
        url = reverse("admin:auth_user_password_change", args=[ada.pk])
        saved(root.post(url, {**passwords, "reason": REASON}))
        own = {"old_password": PASSWORD, "new_password1": "battery-staple-2", "new_password2": "battery-staple-2"}
        saved(root.post(reverse("admin:password_change"), own))
        saved(root.post(reverse("admin:merchants_user_add"), {"username": "eve", **passwords, "reason": REASON}))
    ada.refresh_from_db()
    assert (ada.email, ada.is_staff, ada.is_superuser) == ("ada@example.com", True, False)
    assert ada.check_password(passwords["password1"])
    assert User.objects.get(username="root").check_password("battery-staple-2")
    assert User.objects.filter(username="eve").exists()


def test_nobody_becomes_a_superuser_in_the_console(person):
    root = desk(person({}, name="root", is_staff=True, is_superuser=True))
    ada = person({})
    saved(save(root, ada, is_superuser="on", user_permissions=["1"], email="ada@example.com"))
    ada.refresh_from_db()
    assert (ada.is_superuser, ada.email, ada.user_permissions.count()) == (False, "ada@example.com", 0)


@pytest.mark.django_db(transaction=True)
def test_the_worker_sends_back_a_delivery_to_an_endpoint(merchant):
    hook = webhook(endpoint(merchant))
    with acting_as("notifier"):
        assert attempt(hook, Failed(detail="400", final=True), now=timezone.now())
    with acting_as("web"), transaction.atomic():
        made = resolutions.decide(Selection(), Resolution.Action.REPLAY, reason="r", by="ada")
    with acting_as("worker"):
        assert resolutions.work_off(made.pk, in_background=True).replayed == 1
    assert Delivery.objects.get().state == "pending"


@pytest.mark.django_db(transaction=True)
def test_web_decides_on_dead_letters_and_the_worker_carries_it_out(accept, sandbox):
    fail(accept())
    with acting_as("web"), transaction.atomic():
        made = resolutions.decide(Selection(), Resolution.Action.REPLAY, reason="r", by="ada")
    with acting_as("worker"):
        assert resolutions.work_off(made.pk, in_background=True).replayed == 1
        process_payments(payment_ids=[Payment.objects.get().pk])
    assert Payment.objects.get().status == "succeeded"


def test_the_relay_publishes_rescues_and_fans_out(accept, endpoint_of_shop):
    accept()
    with acting_as("relay"):
        pulse = heartbeats.Pulse("relay")
        pulse.beat()
        assert relay.run_once(TakesAll())
        assert subscribers.run_once("notifications")
        for name in (*django_settings.RELAY_PERIODIC_JOBS, *django_settings.SUBSCRIBERS_PERIODIC_JOBS):
            import_string(name)()
        pulse.stop()
    assert Delivery.objects.filter(endpoint=endpoint_of_shop).exists()


class TakesAll:
    """A broker that confirms everything."""

    def publish(self, envelopes):
        return Published(confirmed={envelope.message_id for envelope in envelopes}, refused=set())


@pytest.fixture
def endpoint_of_shop(merchant):
    return endpoint(merchant)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["pm_ok", "pm_declined", "pm_reset", "pm_down"])
def test_the_worker_charges(accept, sandbox, method):
    payment = accept(payment_method=method, user_id="u")
    with acting_as("worker"):
        process_payments(payment_ids=[payment.pk])
        heartbeats.Pulse("worker").beat()
    payment.refresh_from_db()
    assert payment.charge_attempts == 1


@pytest.mark.django_db(transaction=True)
def test_the_notifier_sends_and_keeps_the_record(merchant, mailoutbox, settings):
    settings.EMAIL_ON = True
    facts = {"url": "https://shop.example", "since": "2026-11-21T09:00:00.000Z", "reason": "r"}
    delivery = message(merchant, event_type="webhook_endpoint.failing", payment_id=None, data=facts)
    hook = webhook(endpoint(merchant))
    with acting_as("notifier"):
        messages.deliver(delivery.pk)
        assert attempt(hook, Delivered(status_code=204), now=timezone.now())
        heartbeats.Pulse("notifier").beat()
    assert {row.state for row in Delivery.objects.all()} == {"delivered"}
    assert len(mailoutbox) == 1


def told(body):
    return Message(queue="payment_initiation", body=body, message_id="", headers={}, correlation_id="")


def test_intake_accepts_and_buries(merchant):
    bodies = [json.dumps({"idempotency_key": "k", "amount": "1.00", "merchant": merchant.slug}).encode(), b"{"]
    with acting_as("intake"):
        for body in bodies:
            intake.receive(told(body))
        heartbeats.Pulse("intake").beat()
    assert Payment.objects.count() == DeadLetter.objects.count() == 1


def test_cron_computes_the_metrics(accept, merchant):
    accept()
    with acting_as("cron"):
        call_command("compute_daily_metrics", rebuild=True)
        call_command("compute_daily_metrics")
        call_command("export_metrics")


def test_cron_prunes_and_encrypts_anew(accept, merchant, person, anybody):
    accept()
    endpoint(merchant)
    person({merchant: Role.ADMIN})
    with time_machine.travel(timezone.now() - timedelta(days=100)):
        tokens(anybody)
        ask(anybody, password="wrong")
        buckets.take(merchant, Mode.TEST)
    Bucket.objects.update(full_at=timezone.now() - timedelta(days=100))
    Counter.objects.update(expires_at=timezone.now() - timedelta(days=100))
    dead = letter()
    long_ago = timezone.now() - timedelta(days=4000)
    DeadLetter.objects.filter(pk=dead.pk).update(state="discarded", resolved_at=long_ago)
    with acting_as("cron"):
        call_command("prune", stdout=io.StringIO())
        call_command("reencrypt_secrets", stdout=io.StringIO())
    for model in (DeadLetter, LoginSession, AccessAttempt, Bucket, Counter):
        assert not model.objects.exists(), model


def test_who_looks_on_reads_everything_but_secrets():
    with acting_as("readonly"), connection.cursor() as cursor:
        for line in lines():
            if "readonly" in line.who:
                cursor.execute(f"SELECT {', '.join(line.columns) or '*'} FROM {line.table} LIMIT 1")
        for column in ("password", "email"):
            assert refused(f"SELECT {column} FROM merchants_user")
        assert refused("SELECT * FROM django_session")
        assert refused("SELECT * FROM otp_totp_totpdevice")


# --- what nobody may do


@pytest.mark.parametrize("role", ROLES)
def test_the_record_is_not_changed_by_any_process(role, accept):
    accept()
    with transaction.atomic():
        audit.record(audit.SYSTEM, "roles.tested")
    with acting_as(role):
        for statement in (
            "UPDATE merchants_auditentry SET reason = ''",
            "DELETE FROM merchants_auditentry",
            "TRUNCATE merchants_auditentry",
            "UPDATE payments_paymentevent SET type = ''",
            "DELETE FROM payments_paymentevent",
            "TRUNCATE payments_paymentevent CASCADE",
            "DELETE FROM payments_attempt",
            "DELETE FROM payments_payment",
            "TRUNCATE payments_payment CASCADE",
        ):
            assert refused(statement), statement


@pytest.mark.parametrize("role", ROLES)
def test_no_process_changes_what_the_database_holds_it_to(role):
    with acting_as(role), connection.cursor() as cursor:
        for statement in ("CREATE TABLE public.mine (id int)", "CREATE TEMPORARY TABLE mine (id int)"):
            assert refused(statement), statement
        for statement in (
            "ALTER TABLE payments_payment DISABLE TRIGGER ALL",
            "ALTER TABLE payments_payment DROP CONSTRAINT payments_payment_pkey",
            "DROP TABLE payments_payment",
            "CREATE INDEX ON payments_payment (id)",
        ):
            with pytest.raises(ProgrammingError, match=r"must be owner|permission denied"), transaction.atomic():
                cursor.execute(statement)


@pytest.mark.parametrize("role", [role for role in ROLES if role not in {"relay", "cron"}])  # which prunes
def test_only_the_relay_takes_messages_out_of_the_outbox(role, accept):
    accept()
    with acting_as(role):
        assert refused("DELETE FROM messaging_outboxmessage")
    assert OutboxMessage.objects.exists()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("web", "INSERT INTO payments_attempt (id) VALUES (1)"),
        ("web", "DELETE FROM merchants_user"),
        ("web", "DELETE FROM merchants_apikey"),
        ("web", "UPDATE auth_permission SET codename = 'x'"),
        ("worker", "INSERT INTO payments_payment (id) VALUES (gen_random_uuid())"),
        ("worker", "SELECT * FROM merchants_apikey"),
        ("worker", "SELECT * FROM merchants_user"),
        ("worker", "SELECT * FROM notifications_contact"),
        ("notifier", "UPDATE payments_payment SET status = 'succeeded'"),
        ("notifier", "INSERT INTO payments_paymentevent (id) VALUES (gen_random_uuid())"),
        ("notifier", "UPDATE notifications_contact SET email = 'x'"),
        ("intake", "UPDATE payments_attempt SET outcome = 'approved'"),
        ("intake", "SELECT * FROM notifications_webhookendpoint"),
        ("intake", "SELECT * FROM merchants_user"),
        ("relay", "INSERT INTO payments_payment (id) VALUES (gen_random_uuid())"),
        ("relay", "UPDATE merchants_user SET is_superuser = true"),
        ("cron", "UPDATE payments_payment SET status = 'succeeded'"),
        ("cron", "UPDATE merchants_user SET is_superuser = true"),
        ("readonly", "INSERT INTO messaging_outboxmessage (id) VALUES (1)"),
        ("readonly", "SELECT * FROM notifications_contact"),
    ],
)
def test_no_process_does_what_is_anothers_business(role, statement):
    with acting_as(role):
        assert refused(statement)
