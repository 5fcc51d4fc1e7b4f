"""`make run`: from an empty folder to a payment that succeeded, and no trace of a process afterwards."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from deploy.local.demo import curl
from tests.e2e.conftest import PAST, alive, make_run
from tests.system import ROOT, eventually


@pytest.fixture(scope="module", params=["", "none"], ids=["rabbitmq", "in-process"])
def run(request, tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), request.param)
    made.start()
    yield made
    made.stop()


def printed_curl(run):
    """The command of the table, as somebody would paste it."""
    return curl(run.demo)


def pay(run):
    """Paste the printed curl; returns the payment's id."""
    done = subprocess.run(["bash", "-c", printed_curl(run)], capture_output=True, text=True, check=True)
    assert "HTTP/1.1 202" in done.stdout, done.stdout
    location = next(line for line in done.stdout.splitlines() if line.lower().startswith("location:"))
    return location.split()[1].rsplit("/", 1)[1]


def test_the_printed_curl_pays_exactly_once(run):
    payment = pay(run)
    eventually(lambda: run.get(f"/api/v1/payments/{payment}").json()["status"] == "succeeded", within=10)
    assert len(run.charges(payment)) == 1


def test_a_message_becomes_a_payment_where_there_is_a_rabbitmq(run):
    env = {"DATABASE_URL": run.demo["database_url"], "RABBITMQ_URL": run.demo["rabbitmq_url"] or ""}
    argv = [sys.executable, str(ROOT / "manage.py"), "publish_payment", "--amount", "12.34", "--order-id", "by-message"]
    done = subprocess.run(
        argv, env={**os.environ, "ENVIRONMENT": "development", **env}, capture_output=True, text=True, check=False
    )
    if run.broker == "none":
        assert done.returncode == 1
        assert "RABBITMQ_URL is not set" in done.stderr
        return
    assert done.returncode == 0, done.stderr

    def paid():
        found = run.get("/api/v1/payments?order_id=by-message").json()["results"]
        return [payment for payment in found if payment["status"] == "succeeded"]

    (payment,) = eventually(paid, within=30, what="the message is a payment that succeeded")
    assert payment["amount"] == "12.34"
    assert len(run.charges(payment["id"])) == 1
    assert run.get("/health").json()["parts"]["intake"] == {"status": "healthy"}


def readmes_variables(run):
    """The variables that the README exports for commands beside a run."""
    block = (ROOT / "README.md").read_text().partition("# The servers of `make run`.\n")[2].partition("\n\n")[0]
    script = block.replace(".venv/bin/python", sys.executable).replace(".data/", f"{run.data}/") + "\nenv -0"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_with_the_readmes_variables_a_command_locks_secrets_that_the_workers_can_open(run):
    env = readmes_variables(run)
    command = [sys.executable, str(ROOT / "manage.py"), "sandbox"]
    listener = subprocess.Popen([*command, "listen", "--events", "payment.succeeded"], env=env, stdout=subprocess.PIPE)
    try:
        assert b"Registered" in listener.stdout.readline()
        assert b"Listening" in listener.stdout.readline()
        subprocess.run([*command, "trigger", "payment.succeeded"], env=env, stdout=subprocess.DEVNULL, check=True)
        assert b"signature ok" in listener.stdout.readline(), "the first webhook verifies"
    finally:
        listener.terminate()
        listener.communicate(timeout=120)


def test_demo_json_says_all_and_only_to_its_owner(run):
    demo = run.reload()
    assert set(demo) == {
        *("url", "api_key", "admin_user", "admin_password", "sandbox_url", "database_url", "rabbitmq_url"),
        *("console_url", "encryption_key", "processes"),
    }
    assert stat.S_IMODE((run.data / "demo.json").stat().st_mode) == 0o600
    assert all(alive(pid) for pid in demo["processes"].values())
    assert (demo["rabbitmq_url"] is None) == (run.broker == "none")
    expected = {"postgres", "sandbox", "web", "relay", "cron"} | (
        {"epmd", "rabbitmq", "worker", "intake"} if not run.broker else set()
    )
    assert set(demo["processes"]) == expected


def test_health_console_and_documents_answer(run):
    health = run.get("/health").json()
    assert health["status"] == "healthy"
    assert run.get("/docs").status_code == 200
    assert run.get("/api/v1/schema").status_code == 200
    assert "payments_outbox_messages " in run.get("/metrics").text
    assert run.get("/admin/login/").status_code == 200
    assert run.get("/static/console/admin.css").status_code == 200


def test_a_process_that_dies_is_started_again(run):
    victims = ["relay"] if run.broker else ["worker", "relay", "intake", "sandbox"]
    for name in victims:
        before = run.reload()["processes"][name]
        os.kill(before, signal.SIGKILL)
        eventually(lambda name=name, before=before: run.reload()["processes"][name] not in {before, None}, within=30)
    eventually(lambda: run.get("/health").json()["status"] == "healthy", within=60)
    payment = pay(run)
    eventually(lambda: run.get(f"/api/v1/payments/{payment}").json()["status"] == "succeeded", within=90)
    assert len(run.charges(payment)) == 1


def test_a_second_run_over_the_same_folder_is_refused_in_one_line(run):
    other = make_run(run.data.parent).popen()
    out, _ = other.communicate(timeout=120)
    assert other.returncode == 1
    assert len(out.strip().splitlines()) == 1
    assert f"process {run.process.pid}" in out
    assert "DATA_DIR" in out


def test_a_taken_port_is_told_in_one_line_with_its_mend(run, tmp_path):
    other = make_run(tmp_path)
    other.port = run.port
    process = other.popen()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(out.strip().splitlines()) == 1
    assert f"Port {run.port}" in out
    assert "PORT=" in out


def test_it_stops_without_orphans_and_starts_again_with_what_it_had(run):
    before = run.reload()
    run.stop()
    assert run.process.returncode == 0
    assert [name for name, pid in before["processes"].items() if alive(pid)] == []
    assert not (run.data / "demo.json").exists()
    run.start()
    assert run.demo["api_key"] == before["api_key"]
    listed = run.get("/api/v1/payments?page_size=200").json()["results"]
    orders = {payment["order_id"] for payment in listed}
    assert {"demo-1", "demo-2", "demo-3"} <= orders
    assert {f"history-{number + 1}" for number in range(PAST)} <= orders, "a past of the length that was asked for"


def test_a_killed_supervisor_takes_its_processes_along(run):
    before = run.reload()["processes"]
    run.process.kill()
    run.process.communicate()
    eventually(lambda: not any(alive(pid) for pid in before.values()), within=20, what=f"all of {before} are gone")
    run.start()  # a stale folder is no obstacle


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PORT", "eighty", "PORT is 'eighty'"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none", "DATABASE_URL cannot be used"),
        ("DATA_DIR", "/proc/nowhere", "set DATA_DIR"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(tmp_path, monkeypatch, variable, value, told):
    run = make_run(tmp_path, "none")
    env = {**os.environ, "PORT": str(run.port), "DATA_DIR": str(run.data), "RABBITMQ_URL": "none", variable: value}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local"], env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2  # the reason, and "Stopping." if something ran


def test_a_data_folder_of_another_postgresql_is_told_with_its_mend(tmp_path):
    run = make_run(tmp_path, "none")
    cluster = run.data / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    (run.data / "postgres" / "password").write_text("x")
    process = run.popen()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "was made by PostgreSQL 9" in out
    assert "set DATA_DIR" in out
