"""Where a run takes place: a durable PostgreSQL and a RabbitMQ of its own, and whatever is started beside them."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pika
import psycopg

from bench.processes import cpu_seconds
from deploy.local.machine import CannotStart, free_port
from deploy.local.postgres import Postgres
from deploy.local.rabbitmq import RabbitMQ, find_server
from deploy.local.supervisor import Process

ROOT: Final = Path(__file__).resolve().parents[1]
#: The peers' packages live apart from the product's.
PEERS_PYTHON: Final = ROOT / ".venv-bench/bin/python"
#: More than PostgreSQL's 100 connections: every subject's servers stay up beside each other.
MAX_CONNECTIONS: Final = 400
LISTENER: Final = "bench_listener"
#: What a queue could still hold of a measurement before.
QUEUES: Final = ("payments", "notifications", "webhooks", "payment_initiation", "peer_outbox", "peer_celery")


@dataclass(slots=True)
class Stage:
    """The servers, and the processes started so far; `close` ends all of them."""

    folder: Path
    postgres: Postgres
    rabbitmq: RabbitMQ
    running: list[Process] = field(default_factory=list)
    jwt_key: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def logs(self) -> Path:
        """Where everybody's output goes."""
        return self.folder / "logs"

    def open(self) -> None:
        """Start the servers and wait until both are ready."""
        for process in self.rabbitmq.processes():
            node = self.start(process)
        database = self.postgres.process()
        database.argv += ["-c", f"max_connections={MAX_CONNECTIONS}"]
        self.start(database).await_ready(self.postgres.is_ready)
        node.await_ready(self.rabbitmq.is_ready)

    def close(self) -> None:
        """End everything, last started first."""
        while self.running:
            self.running.pop().stop()

    def start(self, process: Process) -> Process:
        """Start a process; it ends with the stage, if not before."""
        process.start()
        self.running.append(process)
        return process

    def stop(self, *processes: Process) -> None:
        """End processes before the stage does, side by side."""
        for process in processes:
            if process.child is not None and process.child.poll() is None:
                process.child.send_signal(process.stop_signal)
        for process in processes:
            process.stop()
            self.running.remove(process)

    def python(self, name: str, *arguments: str, env: Mapping[str, str], peer: bool = False) -> Process:
        """Start a program of ours, or of a peer with its own packages."""
        program = str(PEERS_PYTHON) if peer else sys.executable
        return self.start(Process(name, [program, *arguments], self.logs, env={"PYTHONPATH": str(ROOT), **env}))

    def server_cpu(self) -> dict[str, float]:
        """CPU seconds that database and broker have used."""
        pids = {process.name: process.pid for process in self.running}
        return {name: cpu_seconds(pids[name] or 0) for name in ("postgres", "rabbitmq")}

    # --- databases

    def url_of(self, database: str) -> str:
        """How to connect to a database."""
        return f"{self.postgres.url.rpartition('/')[0]}/{database}"

    def create(self, database: str, *, like: str = "") -> str:
        """A new database, or a new copy of one that nobody uses; its URL."""
        template = f" TEMPLATE {like}" if like else ""
        self.drop(database)
        self.run_sql("postgres", f"CREATE DATABASE {database}{template}")
        return self.url_of(database)

    def drop(self, database: str) -> None:
        """Forget a database, whoever uses it."""
        self.run_sql("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def run_sql(self, database: str, *statements: str) -> None:
        """Carry out statements, each its own commit."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def ask(self, database: str, query: str, *values: Any) -> tuple[Any, ...]:
        """The first row of an answer."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            row = connection.execute(query.encode(), values or None).fetchone()
        assert row is not None, query
        return row

    # --- the broker

    def purge(self) -> None:
        """Empty all queues that there are, so that no measurement works off another's messages."""
        connection = pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url))
        for queue in QUEUES:
            channel = connection.channel()
            try:
                channel.queue_purge(queue)
            except pika.exceptions.ChannelClosedByBroker:
                continue  # nobody has declared it yet
        connection.close()

    @contextmanager
    def listening(self, exchange: str) -> Iterator[None]:
        """Somebody is interested in all events, and keeps them: without, RabbitMQ confirms what it throws away."""
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url)) as connection:
            channel = connection.channel()
            channel.exchange_declare(exchange, "topic", durable=True)
            channel.queue_declare(LISTENER, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(LISTENER, exchange, "#")
        try:
            yield
        finally:
            with pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url)) as connection:
                connection.channel().queue_delete(LISTENER)


@contextmanager
def a_stage() -> Iterator[Stage]:
    """A stage from beginning to end, in a folder that goes with it.

    Raises:
        CannotStart: the machine has no RabbitMQ.
    """
    server = find_server()
    if server is None:
        raise CannotStart("There is no rabbitmq-server on this machine.")
    folder = Path(tempfile.mkdtemp(prefix="payments-bench-"))
    # PostgreSQL's user must reach its own folder.
    folder.chmod(0o755)
    logs = folder / "logs"
    stage = Stage(folder, Postgres(folder / "postgres", logs), RabbitMQ(folder / "rabbitmq", logs, server))
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)


def eventually(condition: Callable[[], Any], *, within: float, every: float = 0.05) -> bool:
    """Whether a condition holds before so many seconds are over."""
    ends = time.monotonic() + within
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(every)
    return True


def run_to_end(argv: Sequence[str], *, env: Mapping[str, str], within: float = 600.0) -> str:
    """What a command prints. Raises CannotStart, with its last words, when it fails."""
    done = subprocess.run(
        argv, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=within, cwd=ROOT
    )
    if done.returncode:
        raise CannotStart(f"{' '.join(argv[:4])} … failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def a_port() -> int:
    """A free port."""
    return free_port()


def a_prefix() -> str:
    """What the keys of one measurement begin with."""
    return uuid4().hex[:12]
