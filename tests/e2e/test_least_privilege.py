"""The production shape works with nothing but what Compose gives: each process with its own role, user and secrets."""

import os
import subprocess
import time
from pathlib import Path

import pika
import pika.exceptions
import pytest
import redis as redis_client

from deploy.local.machine import free_port
from deploy.local.postgres import find_programs
from deploy.local.redis import find_redis
from deploy.local.supervisor import Process
from merchants import redis_buckets
from tests.compose import MOUNTED, ROOT, SECRETS, compose, environment_of
from tests.counting import by_redis
from tests.system import System, eventually

SERVICES = compose()["services"]
SHOP = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """The folder that `make secrets` fills."""
    folder = tmp_path_factory.mktemp("all") / "secrets"
    env = {**os.environ, "SECRETS_DIR": str(folder)}
    subprocess.run(["sh", str(ROOT / "deploy/secrets.sh")], env=env, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory, secrets):
    """Servers with the roles and users of Compose; of the processes the sandbox, and web as the owner."""
    tmp_path = tmp_path_factory.mktemp("system")
    made = System(tmp_path, own_postgres=True)
    made.set_up()
    users = subprocess.run(
        ["sh", str(ROOT / "deploy/rabbitmq/users.sh"), str(secrets)], check=True, capture_output=True
    )
    (tmp_path / "users.json").write_bytes(users.stdout)
    made.rabbitmq.control("import_definitions", str(ROOT / "deploy/rabbitmq/definitions.json"))
    made.rabbitmq.control("import_definitions", str(tmp_path / "users.json"))
    made.rabbitmq.control("delete_user", "guest")
    grant(made, secrets)
    try:
        yield made
    finally:
        made.tear_down()


def grant(system, secrets):
    """As the service `roles` does it."""
    owner = system.database_url.partition("://")[2].partition("@")[0]
    user, _, password = owner.partition(":")
    folder = secrets.parent / "granting"
    folder.mkdir(exist_ok=True)
    for name in SECRETS["roles"]:
        (folder / name).write_text(password if name.startswith("owner") else (secrets / name).read_text())
    env = {
        "SECRETS": str(folder),
        "ROLES_FILE": str(ROOT / "deploy/postgres/roles.sql"),
        "PATH": f"{find_programs()}:{os.environ['PATH']}",
    }
    options = [
        "--host=127.0.0.1",
        f"--port={system.postgres.port}",
        f"--username={user}",
        f"--dbname={system.database}",
    ]
    done = subprocess.run(
        ["sh", str(ROOT / "deploy/postgres/roles.sh"), *options], env=env, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


class Container:
    """A service of Compose as a process of this machine: its environment, its secrets, and nothing else."""

    def __init__(self, name, system, secrets):
        self.folder = system.folder / "mounted" / name
        self.folder.mkdir(parents=True)
        for secret in SECRETS[name]:
            (self.folder / secret).symlink_to(secrets / secret)
        given = environment_of(
            SERVICES[name],
            ALLOWED_HOSTS="127.0.0.1",
            BEHIND_TLS_PROXY="true",
            SANDBOX_URL=system.sandbox_url,
            REDIS_URL="",
        )
        places = {
            "/tmp/": f"{system.folder}/",  # first: the others lead there
            "@postgres:5432/payments": f"@127.0.0.1:{system.postgres.port}/{system.database}",
            "rabbitmq:5672": f"127.0.0.1:{system.rabbitmq.port}",
            MOUNTED: f"{self.folder}/",
            "/run/metrics": str(system.folder),
        }
        for there, here in places.items():
            given = {variable: value.replace(there, here) for variable, value in given.items()}
        self.env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given, "RESCUE_EVERY": "0.2"}
        # Without a Redis of its own here; and of what a container has no more than this.
        self.env = {key: value for key, value in self.env.items() if not (key.startswith("REDIS") and not value)}


def start(system, secrets, name, argv):
    """Start a process with the environment of its container and nothing of this one's."""
    container = Container(name, system, secrets)
    process = Process(
        f"{name}-as-in-compose", ["env", "-i", *[f"{k}={v}" for k, v in container.env.items()], *argv], system.logs
    )
    process.start()
    system.processes[process.name] = process
    return container


def test_every_process_works_with_what_compose_gives_it_and_a_payment_goes_all_the_way(system, secrets):
    system.processes["web"].stop(timeout=30)
    manage = [*system.argv("relay")[:2]]
    start(system, secrets, "web", system.argv("web"))
    start(system, secrets, "relay", [*manage, "relay"])
    start(system, secrets, "worker", [*manage, "worker", "--queues", "payments"])
    start(system, secrets, "notifier", [*manage, "worker", "--queues", "notifications", "webhooks"])
    start(system, secrets, "intake", [*manage, "intake"])
    eventually(lambda: system.status("/readyz") == 200, within=120, what="the web process is ready")
    headers = {**SHOP, "Authorization": f"Bearer {system.api_key}", "Idempotency-Key": "k-1"}
    body = {"amount": "10.00", "currency": "EUR", "payment_method": "pm_ok", "webhook_url": "https://shop.invalid/hook"}
    answer = system.http.post(f"{system.url}/api/v1/payments", headers=headers, json=body)
    assert answer.status_code == 202, answer.text
    place = f"{system.url}/api/v1/payments/{answer.json()['id']}"
    found = eventually(lambda: paid(system, place), within=120, what="the payment is final")
    assert found["status"] == "succeeded"
    statement = "SELECT count(*) AS count FROM notifications_deliveryattempt"
    eventually(lambda: system.query(statement)[0]["count"], within=120, what="the notifier tries the webhook")


def paid(system, place):
    """The payment, once it is final."""
    headers = {**SHOP, "Authorization": f"Bearer {system.api_key}"}
    found = system.http.get(place, headers=headers).json()
    return found if found["status"] in {"succeeded", "failed"} else None


def test_cron_and_migrate_run_with_their_own_secrets_only(system, secrets):
    for name, command in (("migrate", "migrate"), ("cron", "prune"), ("cron", "compute_daily_metrics")):
        folder = system.folder / "mounted" / name
        if folder.exists():
            folder.rename(folder.with_name(f"{name}-{time.monotonic_ns()}"))
        container = Container(name, system, secrets)
        if name == "migrate":
            (container.folder / "owner_database_password").unlink()
            (container.folder / "owner_database_password").write_text(
                (secrets.parent / "granting" / "owner_database_password").read_text()
            )
        argv = [*system.argv("relay")[:2], command, "--verbosity", "0"]
        done = subprocess.run(argv, env=container.env, check=False, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr


def test_no_user_of_rabbitmq_reaches_the_queues_of_another_process(system, secrets):
    for name, theirs in (("worker", "notifications"), ("notifier", "payments"), ("intake", "payments")):
        password = (secrets / f"{name}_rabbitmq_password").read_text().strip()
        url = f"amqp://{name}:{password}@127.0.0.1:{system.rabbitmq.port}/%2F"
        for attempt in (
            lambda channel, theirs=theirs: channel.basic_get(theirs),
            lambda channel, theirs=theirs: channel.queue_purge(theirs),
            lambda channel, theirs=theirs: channel.queue_delete(theirs),
            lambda channel: channel.exchange_declare("mine"),
        ):
            connection = pika.BlockingConnection(pika.URLParameters(url))
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
                attempt(connection.channel())
            assert refused.value.reply_code == 403
            connection.close()
    for url in ("amqp://guest:guest@", "amqp://payments:payments@", "amqp://worker:wrong@"):
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(pika.URLParameters(f"{url}127.0.0.1:{system.rabbitmq.port}/%2F"))


@pytest.fixture
def limits(tmp_path, secrets):
    """Redis as its container starts it; its port, and the password."""
    assert find_redis(), "these tests need a redis-server on the machine"
    port = free_port()
    env = {"SECRETS": str(secrets), "FOLDER": str(tmp_path), "PATH": os.environ["PATH"]}
    options = ["--bind", "127.0.0.1", "--port", str(port)]
    process = Process("redis", ["sh", str(ROOT / "deploy/redis/start.sh"), *options], tmp_path, env=env)
    process.start()
    try:
        eventually(lambda: answers(port), within=20, what="Redis answers")
        yield port, (secrets / "redis_password").read_text().strip()
    finally:
        process.stop(timeout=5)


def answers(port):
    try:
        redis_client.Redis(port=port).ping()
    except redis_client.AuthenticationError:
        return True
    except redis_client.ConnectionError:
        return False
    raise AssertionError("without a password nobody is let in")


@pytest.mark.django_db
def test_redis_counts_for_who_has_the_password_and_does_nothing_else(limits, settings):
    port, password = limits
    url = f"redis://limits:{password}@127.0.0.1:{port}/0"
    by_redis(settings, url)
    assert redis_buckets.take("shop", burst=2, interval=1_000_000)[0]
    from django.core.cache import caches  # noqa: PLC0415  # after the settings

    counter = caches["counters"]
    assert (counter.add("k", 1, 60), counter.incr("k"), counter.get("k")) == (True, 2, 2)
    client = redis_client.Redis.from_url(url)
    for command in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["ACL", "LIST"], ["SHUTDOWN"], ["MONITOR"]):
        with pytest.raises(redis_client.exceptions.NoPermissionError):
            client.execute_command(*command)
    for wrong in (f"redis://127.0.0.1:{port}/0", f"redis://limits:x@127.0.0.1:{port}/0"):
        with pytest.raises(redis_client.AuthenticationError):
            redis_client.Redis.from_url(wrong).ping()


def test_the_folder_of_secrets_is_in_no_image_and_no_repository():
    assert "\n*\n" in Path(ROOT / ".dockerignore").read_text()
    assert ".secrets/" in Path(ROOT / ".gitignore").read_text().splitlines()
