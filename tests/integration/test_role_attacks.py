"""A role of PostgreSQL can do what its line in the file says and no more, whatever SQL runs under it."""

import contextlib
import secrets

import pgtrigger
import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, ProgrammingError, connection, transaction
from django.utils import timezone
from psycopg import errors, sql

from core.triggers import Enforced
from merchants import api_keys
from merchants.models import ApiKey, AuditEntry, Mode, User
from payments.models import Attempt, IdempotencyKey, Payment
from tests.database_roles import (
    LETTERS,
    PREFIX,
    ROLES,
    access,
    acting_as,
    drop_roles,
    lines,
    run_file,
    try_psql,
    updatable,
)

pytestmark = pytest.mark.django_db
PASSWORD = secrets.token_hex(16)
#: What the database refuses with, whatever the reason: no privilege, no ownership, or a trigger.
REFUSALS = (errors.InsufficientPrivilege, errors.RaiseException, errors.ReadOnlySqlTransaction)
#: Columns that no role may ever change, whoever edits the file: money, its record, credentials, powers, what is sent.
NEVER = {
    "payments_payment": {
        *("id", "merchant_id", "mode", "amount", "currency", "order_id", "user_id", "payment_method", "gateway"),
        *("description", "metadata", "webhook_url", "receipt_email", "receipt_phone", "created_at", "amount_refunded"),
        "gateway_key_base",
    },
    "payments_unmatchedcharge": {
        *(
            "gateway",
            "reference",
            "gateway_key",
            "gateway_payment_id",
            "merchant_slug",
            "order_id",
            "amount",
            "currency",
        ),
        *("charged_at", "reason", "source", "created_at"),
    },
    "payments_attempt": {"id", "payment_id", "kind", "gateway_key", "fence", "started_at"},
    "payments_idempotencykey": {"merchant_id", "key", "fingerprint", "payment_id", "created_at"},
    "payments_gatewayevent": {"gateway", "event_id", "type", "body", "received_at"},
    "messaging_outboxmessage": {"message_id", "exchange", "queue", "actor", "payload", "body", "options"},
    "messaging_deadletter": {"message_id", "queue", "actor", "payload", "body", "subject", "first_failed_at"},
    "messaging_resolution": {"action", "reason", "decided_by", "selection", "rate"},
    "notifications_delivery": {"event_id", "event_type", "merchant_id", "payment_id", "channel", "endpoint_id"},
    "merchants_user": {"id", "username", "is_superuser", "date_joined"},
    "merchants_apikey": {"merchant_id", "name", "mode", "prefix", "digest", "scopes", "expires_at", "created_at"},
    "merchants_loginsession": {"user_id", "merchant_id", "mode", "second_factor"},
    "merchants_approval": {"action", "payload", "summary", "count", "sums", "reason", "requested_by", "requested_at"},
}
#: Tables of which no role may change a row.
RECORDS = {
    *("payments_paymentevent", "merchants_auditentry", "notifications_deliveryattempt", "django_admin_log"),
    *("auth_group", "auth_permission", "auth_group_permissions", "merchants_user_user_permissions"),
    *("merchants_user_groups", "django_migrations", "django_content_type"),
}


@pytest.fixture(scope="module", autouse=True)
def _roles(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        run_file(**{f"PAYMENTS_{role.upper()}_PASSWORD": PASSWORD for role in ROLES})
        yield
        drop_roles()


@contextlib.contextmanager
def logged_in(role):
    """A session of its own, as an attacker with the role's password has one: no way back to the owner."""
    given = connection.settings_dict
    login = {"host": given["HOST"], "port": given["PORT"], "dbname": given["NAME"]}
    with psycopg.connect(**login, user=f"{PREFIX}_{role}", password=PASSWORD, autocommit=True) as session:
        yield session


@pytest.fixture(scope="module")
def sessions(_roles):
    """Role -> a session of it, for statements that leave nothing behind."""
    with contextlib.ExitStack() as stack:
        opened = {role: stack.enter_context(logged_in(role)) for role in ROLES}
        opened["readonly"].execute("SET default_transaction_read_only = off")
        yield opened


def columns():
    """Table -> its columns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, array_agg(attname::text) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped"
            " GROUP BY relname"
        )
        return dict(cursor.fetchall())


def allowed(session, statement):
    """Whether the database carries it out. Raises what is wrong with the statement itself."""
    try:
        session.execute(statement)
    except REFUSALS:
        return False
    return True


def refused(statement, values=()):
    """Whether the database refuses a statement in this transaction, by a privilege or by a trigger."""
    with (
        pytest.raises(DatabaseError, match=r"permission denied|pgtrigger: "),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, values)
    return True


# --- every table and every column


@pytest.mark.parametrize("role", ROLES)
def test_a_role_changes_exactly_the_columns_of_the_file(role, sessions):
    documented = {(table, column) for (table, who), names in updatable().items() if who == role for column in names}
    changed = {
        (table, column)
        for table, names in columns().items()
        for column in names
        if allowed(
            sessions[role],
            sql.SQL("UPDATE {} SET {} = NULL WHERE false").format(sql.Identifier(table), sql.Identifier(column)),
        )
    }
    assert changed == documented


def test_no_edit_of_the_file_gives_away_money_records_credentials_or_powers():
    tables = columns()
    for (table, role), names in updatable().items():
        assert not names & NEVER.get(table, set()), (table, role)
        assert table not in RECORDS, role
    for table, names in NEVER.items():
        assert names <= set(tables[table]), "this test names a column that is not there"
    assert set(tables) >= RECORDS


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_adds_and_deletes_only_where_the_file_says(role):
    wrong = []
    with logged_in(role) as session:
        session.execute("SET default_transaction_read_only = off")
        for table in columns():
            letters = access()[table].get(role, "")
            read = next((line.columns for line in lines() if line.table == table and "S" in line.who.get(role, "")), ())
            names = sql.SQL(", ").join(map(sql.Identifier, read)) if read else sql.SQL("*")
            of = sql.Identifier(table)
            tried = {
                "S": sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, of),
                "I": sql.SQL("INSERT INTO {} SELECT (json_populate_recordset(NULL::{}, '[]')).*").format(of, of),
                "D": sql.SQL("DELETE FROM {} WHERE false").format(of),
            }
            done = "".join(letter for letter, statement in tried.items() if allowed(session, statement))
            if done != letters.replace("U", ""):
                wrong.append((table, done, letters))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_has_another_privilege_on_a_table(role):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int >= 170000")
        others = ["TRUNCATE", "REFERENCES", "TRIGGER", *(["MAINTAIN"] if cursor.fetchone()[0] else [])]
        cursor.execute(
            "SELECT relname, privilege FROM pg_class, unnest(%s::text[]) AS privilege WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace AND has_table_privilege(%s, pg_class.oid, privilege)",
            [others, f"{PREFIX}_{role}"],
        )
        assert cursor.fetchall() == []
    with logged_in(role) as session:
        session.execute("SET default_transaction_read_only = off")
        for table in columns():
            assert not allowed(session, sql.SQL("TRUNCATE {} CASCADE").format(sql.Identifier(table))), table
        for table in ("payments_payment", "payments_attempt", "payments_paymentevent", "merchants_auditentry"):
            with session.transaction():
                lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(sql.Identifier(table))
                with pytest.raises(errors.InsufficientPrivilege), session.transaction():
                    session.execute(lock)


# --- the ways around


SETTINGS = [
    "SET session_replication_role = replica",
    "SET SESSION AUTHORIZATION {owner}",
    "SET ROLE {owner}",
    "SET ROLE {another}",
    "SET ROLE pg_write_all_data",
    "ALTER ROLE {me} SUPERUSER",
    "ALTER ROLE {me} CREATEROLE",
    "ALTER ROLE {me} BYPASSRLS",
    "ALTER ROLE {another} PASSWORD 'x'",
    "GRANT {owner} TO {me}",
    "GRANT pg_read_server_files TO {me}",
    "ALTER SYSTEM SET fsync = off",
    "ALTER DATABASE {database} SET session_replication_role = replica",
    "CREATE ROLE another",
]
OBJECTS = [
    "CREATE TEMPORARY TABLE payments_payment (id uuid)",
    "CREATE TABLE public.mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE VIEW public.mine AS SELECT 1",
    "CREATE EXTENSION {extension}",
    "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION {trigger}()",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE TRIGGER mine BEFORE UPDATE ON payments_payment FOR EACH ROW EXECUTE FUNCTION {trigger}()",
    "DROP TRIGGER {trigger} ON payments_payment",
    "ALTER TABLE payments_payment DISABLE TRIGGER ALL",
    "CREATE OR REPLACE FUNCTION {trigger}() RETURNS trigger AS 'BEGIN RETURN NEW; END' LANGUAGE plpgsql",
    "ALTER FUNCTION {trigger}() SET search_path = mine",
    "CREATE RULE mine AS ON UPDATE TO payments_payment DO INSTEAD NOTHING",
    "CREATE POLICY mine ON payments_payment",
    "COMMENT ON TRIGGER {trigger} ON payments_payment IS ''",
]
FILES = [
    "COPY payments_payment TO '/tmp/roles_in_tests'",
    "COPY payments_payment TO PROGRAM 'cat'",
    "COPY payments_payment FROM '/tmp/roles_in_tests'",
    "COPY messaging_outboxmessage FROM PROGRAM 'echo'",
    "COPY merchants_apikey (digest) FROM PROGRAM 'echo'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_export(1, '/tmp/roles_in_tests')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT setval('payments_attempt_id_seq', 1)",
    "SELECT nextval('payments_attempt_id_seq')",
    "SELECT pg_terminate_backend({pid})",
    "SELECT pg_reload_conf()",
    "SELECT rolpassword FROM pg_authid",
    "SELECT {trigger}()",
]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gets_around_its_privileges(role, sessions):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgtrigger_what_was_asked_stays%'")
        names = {"trigger": cursor.fetchone()[0], "me": f"{PREFIX}_{role}"}
        cursor.execute("SELECT current_user, current_database(), pg_backend_pid()")
        names |= dict(zip(("owner", "database", "pid"), cursor.fetchone(), strict=True))
        cursor.execute("SELECT name FROM pg_available_extensions WHERE installed_version IS NULL LIMIT 1")
        names["extension"] = cursor.fetchone()[0]
    names["another"] = f"{PREFIX}_{ROLES[ROLES.index(role) - 1]}"
    carried_out = []
    for statement in (*SETTINGS, *OBJECTS, *FILES):
        try:
            sessions[role].execute(statement.format(**names))
        except errors.InsufficientPrivilege:
            continue
        except errors.FeatureNotSupported:  # said before the privilege is looked at
            assert statement == "SELECT {trigger}()"
            continue
        carried_out.append(statement)
    assert carried_out == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gives_itself_a_privilege_that_it_has_not(role):
    me = f"{PREFIX}_{role}"
    with logged_in(role) as session:
        session.execute("SET default_transaction_read_only = off")
        for statement in (
            f"GRANT ALL ON payments_payment TO {me}",
            f"GRANT UPDATE (amount) ON payments_payment TO {me} WITH GRANT OPTION",
            f"GRANT ALL ON SCHEMA public TO {me}",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {me}",
        ):
            allowed(session, statement)  # PostgreSQL only warns where there is nothing to give
        has = "has_column_privilege('payments_payment', 'amount', 'UPDATE'), has_schema_privilege('public', 'CREATE')"
        assert session.execute(f"SELECT {has}").fetchone() == (False, False)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_runs_a_function_of_ours_and_none_runs_as_its_owner(role):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND (prosecdef OR has_function_privilege(%s, oid, 'EXECUTE'))",
            [f"{PREFIX}_{role}"],
        )
        assert cursor.fetchall() == []


def test_who_looks_on_writes_nothing_after_taking_back_its_own_settings():
    with logged_in("readonly") as session:
        session.execute("SET default_transaction_read_only = off")
        session.execute(f"ALTER ROLE {PREFIX}_readonly RESET ALL")
    try:
        with logged_in("readonly") as session:
            assert session.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
            for table in columns():
                for letter in ("INSERT", "DELETE"):
                    found = session.execute("SELECT has_table_privilege(%s, %s)", [f"public.{table}", letter])
                    assert found.fetchone() == (False,), table
    finally:
        run_file()


def test_no_role_sees_what_the_others_run():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    for role in ROLES:
        with logged_in(role) as session:
            seen = session.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall()
            assert seen == [("<insufficient privilege>",)]


@pytest.mark.parametrize("attribute", ["SUPERUSER", "CREATEROLE", "BYPASSRLS", "IN ROLE pg_write_all_data"])
def test_the_file_refuses_a_role_that_can_do_more_by_other_means(attribute):
    prefix = f"{PREFIX}_{secrets.token_hex(4)}"
    done = try_psql(f"--command=CREATE ROLE {prefix}_web {attribute}")
    assert done.returncode == 0, done.stderr
    try:
        done = try_psql(f"--set=prefix={prefix}", "--file=deploy/postgres/roles.sql")
        assert done.returncode != 0
        assert f"attributes, memberships or objects of their own: {prefix}_web." in done.stderr
    finally:
        assert try_psql(f"--command=DROP ROLE {prefix}_web").returncode == 0


# --- triggers


def test_every_trigger_is_one_that_no_setting_switches_off():
    weak = [trigger.get_uri(model) for model, trigger in pgtrigger.registered() if not isinstance(trigger, Enforced)]
    assert weak == [], "use the classes of core.triggers"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal"
            " AND (prosrc LIKE '%_pgtrigger_should_ignore%' OR prosrc LIKE '%current_setting%')"
        )
        assert cursor.fetchall() == []


@pytest.fixture
def paid(accept):
    """A payment that was captured, with its attempt, as the worker leaves them."""
    payment, now = accept(order_id="o-1"), timezone.now()
    attempt = Attempt.objects.create(
        payment=payment, kind="charge", gateway_key=payment.gateway_key, fence=1, started_at=now
    )
    Payment.objects.filter(pk=payment.pk).update(status="processing", fence=1, version=2)
    done = {"status": "succeeded", "finished_at": now, "amount_captured": payment.amount, "revive_at": None}
    Payment.objects.filter(pk=payment.pk).update(**done, gateway_reference="ch_1", version=3)
    Attempt.objects.filter(pk=attempt.pk).update(outcome="approved", finished_at=now, gateway_reference="ch_1")
    return payment


REWRITES = [
    "UPDATE payments_payment SET amount = 1",
    "UPDATE payments_payment SET currency = 'JPY'",
    "UPDATE payments_payment SET order_id = 'another'",
    "UPDATE payments_payment SET merchant_id = gen_random_uuid()",
    "UPDATE payments_payment SET status = 'failed', finished_at = now()",
    "UPDATE payments_payment SET status = 'pending', finished_at = NULL, revive_at = now()",
    "UPDATE payments_payment SET fence = 0",
    "UPDATE payments_payment SET amount_captured = 1",
    "UPDATE payments_payment SET gateway_reference = 'ch_2'",
    "UPDATE payments_payment SET key_number = 2",
    "DELETE FROM payments_payment",
    "UPDATE payments_attempt SET outcome = 'declined'",
    "UPDATE payments_attempt SET gateway_reference = 'ch_2'",
    "UPDATE payments_attempt SET outcome = '', finished_at = NULL",
    "DELETE FROM payments_attempt",
    "UPDATE payments_paymentevent SET snapshot = '{}'",
    "UPDATE payments_idempotencykey SET body = 'another'",
    "UPDATE payments_idempotencykey SET status_code = 500",
]


@pytest.mark.parametrize("role", [*ROLES, "the owner"])
def test_a_paid_payment_is_not_rewritten_whatever_is_set(role, paid):
    everything = ",".join(trigger.get_pgid(model) for model, trigger in pgtrigger.registered())
    with acting_as(role) if role in ROLES else contextlib.nullcontext():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('pgtrigger.ignore', %s, true)", [f"{{{everything}}}"])
        for statement in REWRITES:
            assert refused(statement), statement
    paid.refresh_from_db()
    assert (paid.status, paid.amount_captured, paid.order_id) == ("succeeded", paid.amount, "o-1")


def test_a_late_answer_still_completes_an_attempt_that_was_given_up(accept):
    payment, now = accept(), timezone.now()
    given_up = Attempt.objects.create(
        payment=payment,
        kind="charge",
        gateway_key=payment.gateway_key,
        fence=1,
        outcome="abandoned",
        started_at=now,
        finished_at=now,
    )
    with acting_as("worker"):
        assert Attempt.objects.filter(pk=given_up.pk).update(outcome="approved", gateway_reference="ch_1") == 1


@pytest.mark.parametrize("role", ["web", "intake"])
@pytest.mark.parametrize("forged", [{"fence": 7}, {"amount_captured": 1000}, {"status": "succeeded"}])
def test_no_payment_is_created_that_is_paid_already(role, forged, paid):
    another = Payment.objects.get(pk=paid.pk)
    made = {"pk": None, "status": "pending", "amount_captured": 0, "fence": 0, "order_id": "o-2", **forged}
    for name, value in made.items():
        setattr(another, name, value)
    another.finished_at = timezone.now() if another.status == "succeeded" else None
    another.revive_at = timezone.now()
    another._state.adding = True
    another.pk = Payment().pk
    with acting_as(role), pytest.raises(ProgrammingError, match="payments_begin_pending"), transaction.atomic():
        another.save(force_insert=True)


# --- powers


@pytest.mark.parametrize("role", ROLES)
def test_no_role_makes_itself_a_superuser_of_the_console(role, person):
    ada = person({}, name="ada", is_staff=True)
    row = {
        "username": "mallory",
        **dict.fromkeys(("password", "first_name", "last_name", "email"), ""),
        **dict.fromkeys(("is_superuser", "is_staff", "is_active"), True),
        "date_joined": "2026-01-01",
    }
    for statement, values in (
        ("UPDATE merchants_user SET is_superuser = true WHERE id = %s", [ada.pk]),
        (f"INSERT INTO merchants_user ({', '.join(row)}) VALUES ({'%s, ' * 8}%s)", [*row.values()]),
        ("INSERT INTO merchants_user_user_permissions SELECT 1, %s, id FROM auth_permission", [ada.pk]),
        ("INSERT INTO auth_group_permissions SELECT 1, 1, id FROM auth_permission", []),
        ("INSERT INTO auth_group (name) VALUES ('mine')", []),
        ("UPDATE auth_permission SET codename = 'x'", []),
    ):
        with acting_as(role):
            assert refused(statement, values), statement
    assert not User.objects.filter(is_superuser=True).exists()


def test_the_owner_creates_superusers_and_web_creates_staff_without_their_powers():
    User.objects.create_superuser("root", password="correct-horse-battery-staple")
    with acting_as("web"):
        staff = User.objects.create_user("ada", is_staff=True)
        with pytest.raises(ProgrammingError, match="superusers_are_made_by_the_owner"), transaction.atomic():
            User.objects.create_superuser("mallory")
    assert not staff.is_superuser


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE merchants_apikey SET digest = 'x'",
        "UPDATE merchants_apikey SET scopes = ARRAY['payments:write']",
        "UPDATE merchants_apikey SET mode = 'live'",
        "UPDATE merchants_apikey SET expires_at = NULL",
        "UPDATE merchants_apikey SET revoked_at = NULL",
    ],
)
def test_a_revoked_key_opens_nothing_again(statement, merchant):
    api_keys.register_key("sk_test_" + "a" * 32, merchant=merchant, mode=Mode.TEST, name="n")
    ApiKey.objects.update(revoked_at=timezone.now())
    with acting_as("web"):
        assert refused(statement)


def test_a_stored_answer_is_kept_and_an_empty_one_is_completed(merchant):
    row = {"merchant": merchant, "fingerprint": b"x" * 32, "status_code": 202, "location": ""}
    empty = IdempotencyKey.objects.create(**row, key="empty", body="")
    with acting_as("web"):
        IdempotencyKey.objects.filter(pk=empty.pk).update(body="{}", location="/x")
        with pytest.raises(DatabaseError, match="pgtrigger: "), transaction.atomic():
            IdempotencyKey.objects.filter(pk=empty.pk).update(body="another")


def test_a_record_is_added_and_never_changed_by_the_process_that_writes_it():
    with acting_as("web"):
        entry = AuditEntry.objects.create(actor="user:ada", via="console", action="roles.tested")
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            AuditEntry.objects.filter(pk=entry.pk).update(actor="user:bob")


def test_the_relay_may_move_all_schedules_when_the_clock_was_set_back():
    for table, names in settings.SCHEDULED_COLUMNS.items():
        assert set(names) <= updatable()[table, "relay"], table


def test_every_letter_of_the_file_is_known():
    assert {letter for line in lines() for letters in line.who.values() for letter in letters} <= set(LETTERS)
    assert {role for line in lines() for role in line.who} == set(ROLES)
