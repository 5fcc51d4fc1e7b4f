"""The whole system as processes that a test may start, kill and look into; with the sandbox as the witness."""

import base64
import functools
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from psycopg.rows import dict_row

from deploy.local.machine import free_port
from deploy.local.postgres import Postgres
from deploy.local.supervisor import Process
from tests.canaries import leaks_in
from tests.hosts import VirtualHost, node_in
from tests.tcp_proxy import TcpProxy

ROOT = Path(__file__).resolve().parents[1]
FINAL = {"succeeded", "failed", "canceled"}


#: A test must pass on a machine that is ten times slower, too: so much longer (s) is waited for what takes seconds.
SLOWEST_MACHINE = 10
LONGEST_WAIT = 120.0


def eventually(condition: Callable[[], Any], *, within: float, what: str | Callable[[], str] = "") -> Any:
    """Return the condition's first true value.

    `within`: the seconds it may take on an idle machine. They bound a test that fails; no test measures by them.
    """
    within = max(within, min(within * SLOWEST_MACHINE, LONGEST_WAIT))
    ends = time.monotonic() + within
    pause = threading.Event()
    while True:
        if value := condition():
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within} s: {what() if callable(what) else what or condition}")
        pause.wait(0.05)


def migrated(connection: psycopg.Connection, server_url: str) -> str:
    """A database with all migrations and nothing else, for the whole run: each test's is a copy of it."""
    digest = hashlib.sha256()
    for file in sorted(ROOT.glob("*/migrations/*.py")):
        digest.update(file.read_bytes())
    name = f"migrated_{digest.hexdigest()[:16]}"
    connection.execute("SELECT pg_advisory_lock(20261121)")  # of two workers of the tests, one makes it
    try:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            connection.execute(f'CREATE DATABASE "{name}_draft"')
            url = f"{server_url.rpartition('/')[0]}/{name}_draft"
            env = {**os.environ, "ENVIRONMENT": "development", "DATABASE_URL": url}
            manage = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
            subprocess.run(manage, env=env, check=True, capture_output=True)
            connection.execute(f'ALTER DATABASE "{name}_draft" RENAME TO "{name}"')
    finally:
        connection.execute("SELECT pg_advisory_unlock(20261121)")
    return name


@functools.cache
def migrated_cluster() -> tempfile.TemporaryDirectory[str]:
    """The folder of a PostgreSQL with such a database, stopped: systems with one of their own begin with a copy."""
    kept = tempfile.TemporaryDirectory(prefix="payments-cluster-", ignore_cleanup_errors=True)
    postgres = Postgres(Path(kept.name) / "postgres", Path(kept.name) / "logs", durable=False)
    process = postgres.process()
    process.start()
    try:
        process.await_ready(postgres.is_ready)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            migrated(connection, postgres.url)
    finally:
        process.stop()
    return kept


def copy_cluster(folder: Path) -> None:
    """Make a PostgreSQL of one's own."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{migrated_cluster().name}/postgres", str(folder)], check=True)


@dataclass
class System:
    """Our processes over a fresh database and a RabbitMQ node of their own. Times are short (s).

    `own_postgres`: with a PostgreSQL of its own, which a test may kill as well. `host`: a virtual host of a node that
    others use, too, for tests that leave RabbitMQ alone. `proxied`: the processes reach their own PostgreSQL over a
    proxy, `front`, which a failover points to another server.
    """

    folder: Path
    deadline: float = 1.0
    lease: float = 3.0
    revive_after: float = 2.0
    own_postgres: bool = False
    proxied: bool = False
    host: VirtualHost | None = None
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = self.folder / "logs"
        self.api_key = f"sk_test_{secrets.token_urlsafe(32)}"
        self.database = f"system_{uuid.uuid4().hex}"
        self.postgres = Postgres(self.folder / "databases" / "postgres", self.logs)
        if self.own_postgres:
            copy_cluster(self.postgres.folder)
            self.processes["postgres"] = self.postgres.process()
        self.server_url = self.postgres.url if self.own_postgres else os.environ["DATABASE_URL"]
        self.front: TcpProxy | None = TcpProxy(self.postgres.port) if self.proxied else None
        if self.front:
            self.server_url = self.server_url.replace(f":{self.postgres.port}/", f":{self.front.port}/")
        self.database_url = f"{self.server_url.rpartition('/')[0]}/{self.database}"
        self.web_port, self.sandbox_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.web_port}"
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.webhook_secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.rabbitmq = self.host or node_in(self.folder, self.logs)
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
        self.http = httpx2.Client(timeout=30, trust_env=False, limits=limits)
        self.env = {
            "ENVIRONMENT": "development",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.database_url,
            "RABBITMQ_URL": self.rabbitmq.url,
            "INTAKE_DEFAULT_MERCHANT": "demo",
            "SANDBOX_URL": self.sandbox_url,
            "CHARGE_DEADLINE": str(self.deadline),
            "CHARGE_LEASE": str(self.lease),
            "REVIVE_AFTER": str(self.revive_after),
            "RESCUE_EVERY": "0.2",
            # The breaker stays out of the way of tests that are not about it: all of 200 calls would have to fail.
            "BREAKER_MIN_CALLS": "200",
            "BREAKER_FAILURE_RATE": "1",
            "BREAKER_OPEN_FOR": "0.5",
            # So do the limits.
            "LIMIT_READS": "1000000/m",
            "LIMIT_WRITES": "1000000/m",
            "LIMIT_GATEWAY_EVENTS": "1000000/m",
            "CREATION_BURST": "1000000",
            "DECLINES_PER_PAYER": "0",
            "DECLINES_PER_MERCHANT": "0",
            "SANDBOX_WEBHOOK_SECRET": self.webhook_secret,
            "EMAIL_FOLDER": str(self.folder / "mail"),
            "SMS_FOLDER": str(self.folder / "sms"),
            "DEMO_ADMIN_USER": "admin",
            "DEMO_ADMIN_PASSWORD": "not-used-in-tests",
            "DEMO_API_KEY": self.api_key,
        }

    # --- processes

    def set_up(self) -> None:
        """Database, broker, sandbox and web; relay and worker are the test's to start."""
        if self.host is None:
            self.start_rabbitmq(wait=False)
        if self.own_postgres:
            self.start_postgres()
        with psycopg.connect(self.maintenance_url, autocommit=True) as connection:
            template = migrated(connection, self.server_url)
            connection.execute(f'CREATE DATABASE "{self.database}" TEMPLATE "{template}"')
        manage = [sys.executable, str(ROOT / "manage.py"), "seed_demo", "--without-payments"]
        subprocess.run(manage, env={**os.environ, **self.env}, check=True, capture_output=True)
        self.start("sandbox")
        self.start("web")
        eventually(lambda: self.status("/readyz") == 200, within=30, what="the web process is ready")
        if self.host is None:
            self.await_rabbitmq()

    def tear_down(self) -> None:
        self.http.close()
        for name, process in reversed(self.processes.items()):
            process.stop(timeout=0 if name == "rabbitmq" else 10)  # nobody misses what that one would still write
        if self.front:
            self.front.stop()
        if not self.own_postgres:
            with psycopg.connect(self.maintenance_url, autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
        leaks = leaks_in(self.logs, self.env["DEMO_ADMIN_PASSWORD"])
        assert not leaks, f"these logs show a secret: {leaks}"

    @property
    def maintenance_url(self) -> str:
        return f"{self.server_url.rpartition('/')[0]}/postgres"

    def argv(self, name: str) -> list[str]:
        manage = [sys.executable, str(ROOT / "manage.py")]
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "deploy/gunicorn.conf.py")]
        return {
            "web": [*gunicorn, "--bind", f"127.0.0.1:{self.web_port}", "config.asgi"],
            "relay": [*manage, "relay"],
            "worker": [*manage, "worker"],
            "intake": [*manage, "intake"],
            "sandbox": [
                *[sys.executable, "-m", "sandbox", "--port", str(self.sandbox_port)],
                *["--data", str(self.folder / "sandbox")],
                *["--webhooks", f"{self.url}/api/v1/gateways/sandbox/webhooks"],
            ],
        }[name]

    def start(self, name: str, *, instance: str = "", **env: str) -> Process:
        """Start a process; `instance` tells several of one kind apart."""
        process = Process(name + instance, self.argv(name), self.logs, env={**self.env, **env})
        process.start()
        self.processes[name + instance] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        child = self.processes[name].child
        child.kill()
        child.wait()

    def start_rabbitmq(self, *, wait: bool = True) -> None:
        for process in self.rabbitmq.processes():
            running = self.processes.get(process.name)
            if running is None or running.pid is None:
                process.start()
                self.processes[process.name] = process
        if wait:
            self.await_rabbitmq()

    def await_rabbitmq(self) -> None:
        self.processes["rabbitmq"].await_ready(self.rabbitmq.is_ready)

    def wipe_rabbitmq(self) -> None:
        """Kill the node and delete everything it ever stored."""
        self.kill("rabbitmq")
        shutil.rmtree(self.rabbitmq.folder / "data")

    def depth(self, queue: str) -> int:
        """Messages in a queue, those in hand too; 0 where there is no such queue."""
        listed = self.rabbitmq.control("list_queues", "name", "messages").splitlines()
        return sum(int(line.split()[1]) for line in listed if line.split()[:1] == [queue])

    def start_postgres(self) -> None:
        process = self.processes["postgres"]
        process.start()
        process.await_ready(self.postgres.is_ready)

    def crash_postgres(self) -> None:
        """An immediate shutdown: all sessions are cut off, and the next start recovers from the log."""
        child = self.processes["postgres"].child
        child.send_signal(signal.SIGQUIT)
        child.wait()

    def terminate_sessions(self, share: float = 1.0) -> int:
        """Cut off that share of the sessions of our processes, at whatever they are doing."""
        sessions = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid() AND random() < %s"
        )
        with psycopg.connect(self.maintenance_url, autocommit=True) as connection:
            return len(connection.execute(sessions, [self.database, share]).fetchall())

    def gateway(self, **settings: Any) -> None:
        """The sandbox's settings are these from now on, and the defaults else."""
        url = f"{self.sandbox_url}/settings"
        for answer in (self.http.delete(url), self.http.patch(url, json=settings)):
            assert answer.status_code == 200, answer.text

    def manage(self, *arguments: str) -> str:
        """Run a management command; what it prints."""
        done = self.try_to_manage(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_to_manage(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a management command that may end otherwise than well."""
        argv = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return subprocess.run(argv, env={**os.environ, **self.env, **env}, check=False, capture_output=True, text=True)

    # --- the API

    def status(self, path: str, *, at: str = "") -> int:
        """The status code of a GET; 0 where nobody answers. Of the web process, or of whoever is there."""
        try:
            return self.http.get((at or self.url) + path).status_code
        except httpx2.TransportError:
            return 0

    def post(self, key: str, **body: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.api_key}", "Idempotency-Key": key}
        return self.http.post(f"{self.url}/api/v1/payments", json={"amount": "10.00", **body}, headers=headers)

    def api(self, method: str, path: str, **given: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return self.http.request(method, f"{self.url}/api/v1{path}", headers=headers, **given)

    def get(self, payment_id: str) -> dict[str, Any]:
        return self.api("GET", f"/payments/{payment_id}").json()

    def accept(self, count: int, *, prefix: str = "p", methods: tuple[str, ...] = ("pm_ok",)) -> list[str]:
        """So many payments, each for an order of its own; their ids."""

        def one(number: int) -> str:
            method = methods[number % len(methods)]
            response = self.post(f"{prefix}-{number}", order_id=f"{prefix}-{number}", payment_method=method)
            assert response.status_code == 202, response.text
            return response.json()["id"]

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, range(count)))

    def insist(self, key: str, *, within: float = 60, **body: Any) -> httpx2.Response:
        """POST as a client who wants its answer: again and again, with the same key, until there is one.

        Its first answer may have been lost, so that the one it gets may be a replay.
        """

        def answered() -> httpx2.Response | None:
            try:
                response = self.post(key, **body)
            except httpx2.TransportError:
                return None
            retryable = response.status_code >= 500 or response.json().get("code") == "idempotency_key_in_use"
            return None if retryable else response

        return eventually(answered, within=within, what=f"an answer to {key}")

    # --- the witnesses

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(sql, parameters).fetchall()

    def journal(self) -> list[dict[str, Any]]:
        return self.http.get(f"{self.sandbox_url}/journal").json()

    def charges(self) -> list[dict[str, Any]]:
        """The charges of the gateway's journal, without refunds."""
        return [entry for entry in self.journal() if entry["operation"] == "charge"]

    def statuses(self, ids: list[str]) -> Counter[str]:
        rows = self.query("SELECT status FROM payments_payment WHERE id = ANY(%s::uuid[])", ids)
        return Counter(row["status"] for row in rows)

    def await_final(self, ids: list[str], *, within: float = 60) -> Counter[str]:
        """Wait until all these payments are final."""
        eventually(
            lambda: sum(count for status, count in self.statuses(ids).items() if status in FINAL) == len(ids),
            within=within,
            what=lambda: f"all {len(ids)} payments final: {self.statuses(ids)}",
        )
        return self.statuses(ids)

    def verify(self, ids: list[str], *, by: str = "payment_id") -> None:
        """The invariants, by the gateway's own journal: nothing lost, nothing doubled, nothing left behind.

        `by`: what the journal and the database are compared by, the payment or its order. After a failover that has
        lost a payment, the charge of its order belongs to another payment.
        """
        self.verify_charges(by=by)
        rows = self.query("SELECT id FROM payments_payment WHERE id = ANY(%s::uuid[])", ids)
        assert len(rows) == len(set(ids)), "an accepted payment is gone"
        self.verify_states()
        self.verify_quiet()

    def verify_charges(self, *, by: str = "payment_id") -> None:
        """I1 and I2: at most one charge per payment and order, and the journal and we agree, both ways."""
        charged = self.charges()
        for what in ("payment_id", "order_id"):
            counts = Counter(entry[what] for entry in charged if entry[what])
            assert {name: count for name, count in counts.items() if count > 1} == {}, f"a {what} charged twice"
        theirs = {entry[by]: (entry["amount"], entry["currency"]) for entry in charged}
        ours = self.query(
            "SELECT id::text AS payment_id, order_id, amount_captured, currency"
            " FROM payments_payment WHERE amount_captured > 0"
        )
        assert theirs == {row[by]: (row["amount_captured"], row["currency"]) for row in ours}, "we disagree"

    def verify_states(self) -> None:
        """I3 to I5: final or looked up; final for ever; every change with its event, and one dead letter a death."""
        stuck = self.query(
            "SELECT id FROM payments_payment WHERE finished_at IS NULL"
            " AND NOT (status = 'unknown' AND (next_attempt_at IS NOT NULL OR needs_review))"
        )
        assert stuck == [], "a payment is neither final nor looked up"
        left = self.query(
            "SELECT payment_id FROM ("
            " SELECT payment_id, type, lead(type) OVER (PARTITION BY payment_id ORDER BY version) AS following"
            " FROM payments_paymentevent) AS pairs"
            " WHERE type IN ('payment.succeeded', 'payment.canceled', 'payment.failed')"
            " AND following NOT IN ('payment.needs_review', 'payment.replayed')"
        )
        assert left == [], "a final state was left"
        versions = "SELECT payment_id FROM payments_paymentevent GROUP BY 1 HAVING count(*) <> max(version)"
        assert self.query(versions) == [], "a payment's events have a gap"
        behind = self.query(
            "SELECT payment.id FROM payments_payment AS payment LEFT JOIN payments_paymentevent AS event"
            " ON event.payment_id = payment.id AND event.version = payment.version"
            " WHERE event.id IS NULL OR event.snapshot->>'status' <> payment.status"
        )
        assert behind == [], "a state without its event"
        deaths = self.query(
            "SELECT payment.id FROM payments_payment AS payment LEFT JOIN messaging_deadletter AS letter"
            " ON letter.subject = 'payment:' || payment.id"
            " AND letter.state <> 'replayed' GROUP BY payment.id HAVING count(letter.id) <>"
            " (payment.status = 'failed' AND payment.error_code IN ('retries_exhausted', 'expired'))::int"
        )
        assert deaths == [], "a dead payment without its one dead letter, or a dead letter of a live one"

    def verify_quiet(self) -> None:
        """I7: nothing is left behind."""
        eventually(lambda: not self.query("SELECT FROM messaging_outboxmessage"), within=60, what="the outbox drains")
        events = "SELECT FROM payments_gatewayevent WHERE handled_at IS NULL"
        eventually(lambda: not self.query(events), within=60, what="the gateway's events are handled")
        assert self.query("SELECT id FROM payments_payment WHERE lease_expires_at IS NOT NULL") == []
        assert self.query("SELECT id FROM payments_attempt WHERE finished_at IS NULL") == []
        idle = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%%' AND now() - state_change > interval '5 seconds'"
        )
        assert self.query(idle) == [], "a session idles in a transaction"
