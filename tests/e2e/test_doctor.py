"""The doctor overlooks nothing that holds payments up, says the mend, and changes nothing."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pgtrigger
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from console.doctor import environment, replication
from console.doctor import rabbitmq as patient
from console.doctor.postgres import DURABLE, judge_clock, judge_durability
from console.doctor.replication import Replication, Standby, judge_replication
from core.triggers import Protect
from messaging import topology
from messaging.models import Heartbeat
from messaging.publisher import BrokerUnavailable, RabbitPublisher
from payments.models import PaymentEvent
from tests.system import ROOT, System, eventually

DEFINITIONS = ROOT / "deploy/rabbitmq/definitions.json"
QUEUES = [
    f"{name}{suffix}"
    for name in ("notifications", "payment_initiation", "payments", "webhooks")
    for suffix in ("", ".XQ")
]


@pytest.fixture
def examine(settings, db):
    """The exit status of the doctor, and its report: what -> (state, what it says and the mend)."""

    def do(**environment):
        settings.ENV = replace(settings.ENV, **environment)
        out = StringIO()
        try:
            call_command("doctor", stdout=out, no_color=True)
            status = 0
        except SystemExit as end:
            status = end.code
        found = re.findall(r"^(ok|warning|FAILED) +([^:\n]+): (.*(?:\n +-> .*)?)", out.getvalue(), re.MULTILINE)
        return status, {what: (state, says) for state, what, says in found}

    return do


# --- RabbitMQ


def test_a_queue_declared_otherwise_is_told_with_the_difference_and_the_mend(rabbitmq_url, channel, examine):
    channel.queue_declare("payments", durable=True)
    status, found = examine(rabbitmq_url=rabbitmq_url)
    state, says = found["queue payments"]
    assert (status, state) == (1, "FAILED")
    assert "x-queue-type is classic, and should be quorum" in says
    assert "rabbitmqctl delete_queue payments" in says


def test_the_queue_from_outside_is_not_to_be_deleted_while_others_publish(rabbitmq_url, channel, examine):
    """What they publish while it is away is confirmed and lost."""
    channel.queue_declare("payment_initiation", durable=True)
    state, says = examine(rabbitmq_url=rabbitmq_url)[1]["queue payment_initiation"]
    assert state == "FAILED"
    assert "Keep its publishers out" in says
    assert "rabbitmqctl delete_queue" not in says


def test_all_that_differs_is_told_at_once(rabbitmq_url, channel, examine):
    """RabbitMQ names one thing at a time; each would cost an operator one more deletion."""
    arguments = {**topology.queue_arguments("payments"), "x-delivery-limit": 7, "x-max-length": 10}
    del arguments["x-overflow"]
    channel.queue_declare("payments", durable=True, arguments=arguments)
    says = examine(rabbitmq_url=rabbitmq_url)[1]["queue payments"][1]
    assert "x-delivery-limit is 7, and should be 100" in says
    assert "x-max-length is 10, and should be not set" in says
    assert "x-overflow is not set, and should be reject-publish" in says


def test_the_relays_own_words_on_it_lead_to_the_doctor(rabbitmq_url, channel):
    """Short enough to be whole in its heartbeat, and so in /health."""
    channel.queue_declare("payments", durable=True)
    with pytest.raises(BrokerUnavailable) as trouble:
        RabbitPublisher(rabbitmq_url, ["payments"]).ensure_connected()
    note = f"RabbitMQ: {trouble.value}"[: Heartbeat._meta.get_field("note").max_length]
    assert "manage.py doctor" in note
    assert "payments" in note
    assert "delete it" in str(trouble.value)


@pytest.mark.parametrize(("exchange", "kind"), topology.exchanges().items())
def test_an_exchange_declared_otherwise_is_told_with_the_mend(rabbitmq_url, channel, examine, exchange, kind):
    channel.exchange_declare(exchange, "direct", durable=True)
    state, says = examine(rabbitmq_url=rabbitmq_url)[1][f"exchange {exchange}"]
    assert state == "FAILED"
    assert f"type is direct, and should be {kind}" in says
    assert "docs/rabbitmq.md" in says


def test_looking_creates_nothing(rabbitmq_url, node, examine):
    _, found = examine(rabbitmq_url=rabbitmq_url)
    assert [found[f"queue {queue}"][0] for queue in QUEUES] == ["warning"] * len(QUEUES)
    assert "manage.py relay" in found["queue payments"][1]
    vhost = rabbitmq_url.rpartition("/")[2]
    assert node.control("--quiet", "list_queues", "--vhost", vhost, "name", "--no-table-headers").strip() == ""
    assert "payments.events" not in node.control("list_exchanges", "--vhost", vhost, "name")


def test_messages_that_nobody_reads_are_told(rabbitmq_url, channel, examine):
    for queue, arguments in topology.declarations(topology.work_queues()).items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", "payments.XQ", b"{}")
    state, says = examine(rabbitmq_url=rabbitmq_url)[1]["queue payments.XQ"]
    assert state == "warning"
    assert "messages 1, readers 0" in says
    assert "manage.py relay" in says


def test_a_user_who_may_not_declare_is_told_so(rabbitmq_url, channel, node, examine):
    for queue, arguments in topology.declarations(topology.work_queues()).items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    node.control("set_permissions", "--vhost", rabbitmq_url.rpartition("/")[2], "guest", "^$", ".*", ".*")
    state, says = examine(rabbitmq_url=rabbitmq_url)[1]["queue payments"]
    assert state == "FAILED"
    assert "docs/rabbitmq.md" in says


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("guest:guest", "guest:wrong-7f3a"), "no such user, or another password"),
        (("%2F", "nowhere"), "no such virtual host"),
        (("127.0.0.1", "127.0.0.2"), "Connection refused"),
    ],
)
def test_why_rabbitmq_is_not_to_be_had_is_told_without_the_password(node, examine, change, told):
    status, found = examine(rabbitmq_url=node.url.replace(*change))
    state, says = found["RabbitMQ"]
    assert (status, state) == (1, "FAILED")
    assert told in says
    assert "RABBITMQ_URL" in says
    assert "wrong-7f3a" not in str(found)
    assert found["breakers"][0] == "ok", "it goes on"


@pytest.mark.parametrize(
    ("version", "state"), [("3.9.2", "FAILED"), ("3.13.7", "warning"), ("4.0.0", "ok"), ("4.2.1-rc.1", "ok")]
)
def test_a_version_that_lacks_something_is_told(version, state):
    assert patient.judge_version(version).state == state


def test_no_rabbitmq_is_the_embedded_mode_and_no_fault(examine):
    Heartbeat.objects.create(process="relay", instance="here:1", beat_at=timezone.now())
    _, found = examine(rabbitmq_url="")
    assert found["RabbitMQ"][0] == "ok"
    assert "embedded" in found["RabbitMQ"][1]
    assert found["process relay"][0] == "ok"
    assert "process worker" not in found
    assert "process collector" not in found


# --- PostgreSQL


def test_a_migration_that_is_not_applied_is_told(examine):
    MigrationRecorder(connection).record_unapplied("payments", "0003_replay")
    status, found = examine(rabbitmq_url="")
    assert (status, found["migrations"][0]) == (1, "FAILED")
    assert "payments.0003_replay" in found["migrations"][1]
    assert "manage.py migrate" in found["migrations"][1]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("ALTER TABLE payments_payment DISABLE TRIGGER USER", "switched off"),
        ("DROP TRIGGER IF EXISTS {} ON payments_paymentevent", "uninstalled"),
    ],
)
def test_a_missing_trigger_is_told(examine, sql, told):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgtrigger_events_are_kept%'")
        cursor.execute(sql.format(cursor.fetchone()[0]))
    state, says = examine(rabbitmq_url="")[1]["triggers"]
    assert state == "FAILED"
    assert told in says


@pytest.mark.parametrize(
    "sql",
    [
        # The function of one trigger, which does nothing any more.
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger AS $$ BEGIN RETURN NEW; END $$ LANGUAGE plpgsql",
        # The same, found by another search path, or run as its owner.
        "ALTER FUNCTION {}() RESET search_path",
        "ALTER FUNCTION {}() SECURITY DEFINER",
    ],
)
def test_a_trigger_whose_function_was_replaced_is_found(examine, sql):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgtrigger_recorded_charge_is_kept%'")
        cursor.execute(sql.format(cursor.fetchone()[0]))
    state, says = examine(rabbitmq_url="")[1]["triggers"]
    assert state == "FAILED"
    assert "payments.Payment:recorded_charge_is_kept is weakened" in says


def test_a_trigger_that_asks_a_setting_whether_it_applies_is_found(examine):
    """As pgtrigger's own classes are, which any role could set aside."""
    rule = {"name": "events_are_kept", "operation": pgtrigger.Update | pgtrigger.Delete}
    stock = pgtrigger.Protect(**rule).compile(PaymentEvent)
    with connection.cursor() as cursor:
        cursor.execute(stock.install_sql)
        hash_of_ours = Protect(**rule).compile(PaymentEvent).hash
        cursor.execute(f"COMMENT ON TRIGGER {stock.sql.pgid} ON payments_paymentevent IS '{hash_of_ours}'")
    state, says = examine(rabbitmq_url="")[1]["triggers"]
    assert state == "FAILED"
    assert "payments.PaymentEvent:events_are_kept is weakened" in says


@pytest.mark.parametrize(
    ("setting", "value", "default", "state", "fix"),
    [
        ("fsync", "off", "off", "FAILED", "ALTER SYSTEM SET fsync = on"),
        ("full_page_writes", "off", "off", "FAILED", "ALTER SYSTEM SET full_page_writes = on"),
        ("synchronous_commit", "off", "off", "FAILED", "ALTER ROLE shop SET synchronous_commit = on"),
        ("synchronous_commit", "local", "on", "FAILED", "ALTER ROLE shop SET synchronous_commit = on"),
        ("synchronous_commit", "remote_write", "on", "FAILED", "ALTER ROLE shop SET synchronous_commit = on"),
        ("synchronous_commit", "on", "off", "warning", "ALTER ROLE shop SET synchronous_commit = on"),
    ],
)
def test_each_setting_that_can_lose_a_commit_is_reported_with_its_fix(setting, value, default, state, fix):
    durable = dict.fromkeys(DURABLE, ("on", "on"))
    assert list(judge_durability(durable, "shop")) == []
    assert list(judge_durability({**durable, "synchronous_commit": ("remote_apply", "remote_apply")}, "shop")) == []
    (finding,) = judge_durability({**durable, setting: (value, default)}, "shop")
    assert (finding.state, fix in finding.mend) == (state, True)
    assert f"{setting} = " in finding.says


def test_a_server_that_may_lose_a_commit_fails_the_examination(examine):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    status, found = examine(rabbitmq_url="")
    state, says = found["durability"]
    assert (status, state) == (1, "FAILED")
    assert "synchronous_commit = off" in says


SYNC, QUORUM, ASYNC = Standby("a", "sync"), Standby("a", "quorum"), Standby("b", "async")


@pytest.mark.parametrize(
    ("found", "state", "part"),
    [
        (Replication(), "ok", "no standby"),
        (Replication(standbys=(ASYNC,)), "FAILED", "b is asynchronous"),
        (Replication(standbys=(Standby("", None),)), "FAILED", "a standby is asynchronous"),
        (Replication(unused_slots=("spare",)), "FAILED", "slot spare is not connected"),
        (Replication(names="a", standbys=(SYNC,)), "ok", "commits wait for a"),
        (Replication(names="a", standbys=()), "FAILED", "no such standby is connected"),
        (Replication(names="a", standbys=(ASYNC,)), "FAILED", "no such standby is connected"),
        (Replication(names="a", standbys=(SYNC, ASYNC)), "warning", "b can lack commits"),
        (Replication(names="a, b", standbys=(SYNC, Standby("b", "potential"))), "warning", "b can lack commits"),
        (Replication(names="a", standbys=(SYNC,), unused_slots=("spare",)), "warning", "spare can lack commits"),
        (Replication(names="ANY 1 (a, c)", standbys=(QUORUM,)), "ok", "commits wait for a"),
        (Replication(names="any 2 (a, c)", standbys=(QUORUM, Standby("c", "quorum"))), "ok", "commits wait for a, c"),
        (Replication(names="ANY 1 (a, c)", standbys=(QUORUM, Standby("c", "quorum"))), "warning", "a, c can lack"),
        (Replication(names="a", standbys=(Standby("", None),), role="shop"), "warning", "role shop may not see"),
    ],
)
def test_a_standby_that_could_be_promoted_without_a_commit_is_reported(found, state, part):
    finding = judge_replication(found)
    assert (finding.state, part in finding.says) == (state, True), finding
    assert bool(finding.mend) == (state != "ok")


def test_a_server_without_standbys_has_no_fault_of_replication(db):
    assert [finding.state for finding in replication.standbys()] == ["ok"]


@pytest.mark.parametrize(
    ("seconds", "state", "told"),
    [
        (0.9, "ok", "agree"),
        (-0.9, "ok", "agree"),
        (1.6, "warning", "1.6 s ahead of"),
        (-60, "warning", "60.0 s behind"),
    ],
)
def test_clocks_that_differ_are_told(seconds, state, told):
    finding = judge_clock(timedelta(seconds=seconds))
    assert finding.state == state
    assert told in finding.says


# --- the whole


def test_with_everything_in_order_all_is_well_and_with_postgresql_away_the_rest_is_told(tmp_path, virtual_hosts):
    system = System(tmp_path, own_postgres=True, host=next(virtual_hosts))  # a durable server: the shared one is not
    try:
        system.set_up()
        system.start("relay")
        system.start("worker")
        parts = ("relay", "subscribers", "worker", "collector")
        eventually(lambda: {*parts} <= running(system), within=60, what="all processes show themselves")
        report = system.manage("doctor")
        assert "FAILED" not in report
        assert "process collector: runs once" in report
        assert report.count("as declared; messages 0, readers") == 8
        lonely = examined(system, DATABASE_URL="postgres://somebody:secret-19d2@127.0.0.1:1/nothing")
        assert lonely.returncode == 1
        assert "FAILED   PostgreSQL: cannot be used" in lonely.stdout
        assert "queue payments: as declared" in lonely.stdout, "it goes on"
        assert "secret-19d2" not in lonely.stdout + lonely.stderr
        assert "Traceback" not in lonely.stderr
    finally:
        system.tear_down()


def running(system):
    return {row["process"] for row in system.query("SELECT process FROM messaging_heartbeat WHERE note = ''")}


def examined(system, **environment):
    argv = [sys.executable, str(ROOT / "manage.py"), "doctor"]
    env = {**os.environ, **system.env, **environment}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("collected", [True, False])
def test_in_production_a_missing_manifest_is_told(settings, tmp_path, collected):
    settings.ENV = replace(settings.ENV, production=True)
    settings.STATIC_ROOT = tmp_path
    if collected:
        (tmp_path / "staticfiles.json").write_text("{}")
    (finding,) = environment.static_files()
    assert finding.state == ("ok" if collected else "FAILED")
    assert collected or "collectstatic" in finding.mend


def test_in_production_the_hints_of_djangos_own_checks_are_told(settings):
    settings.ENV = replace(settings.ENV, production=True, behind_tls_proxy=False)
    settings.SECURE_SSL_REDIRECT = False
    says = " ".join(finding.says for finding in environment.settings_in_force())
    assert "BEHIND_TLS_PROXY" in says
    assert "security.W008" in says
