"""PostgreSQL and RabbitMQ for this run: the ones the environment names, or private ones."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from deploy.local.machine import CannotStart
from deploy.local.postgres import Postgres
from deploy.local.rabbitmq import RabbitMQ, find_server
from deploy.local.supervisor import Process, Supervisor

#: `RABBITMQ_URL=none` asks for the in-process broker even where RabbitMQ is installed.
NO_RABBITMQ: Final = "none"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are; `rabbitmq_url` is None where there is no RabbitMQ. `await_rabbitmq` returns once it is up."""

    database_url: str
    rabbitmq_url: str | None
    await_rabbitmq: Callable[[], None]


def start_servers(supervisor: Supervisor, folder: Path, *, durable: bool = True) -> Servers:
    """Start what the environment does not name; returns once PostgreSQL is ready, RabbitMQ comes a little later.

    Not `durable`: PostgreSQL need not survive the power going off, and is much faster for it.

    Raises:
        CannotStart: with the mend.
    """
    logs = folder / "logs"
    rabbitmq_url = os.environ.get("RABBITMQ_URL", "")
    found = None if rabbitmq_url else find_server()
    node: RabbitMQ | None = None
    process: Process | None = None
    if found is not None:
        node = RabbitMQ(folder / "rabbitmq", logs, found)
        for process in node.processes():
            supervisor.start(process)
        rabbitmq_url = node.url
    database_url = os.environ.get("DATABASE_URL") or start_postgres(supervisor, folder, durable=durable)
    require_database(database_url)

    def await_rabbitmq() -> None:
        if process is not None and node is not None:
            process.await_ready(node.is_ready)

    return Servers(
        database_url=database_url,
        rabbitmq_url=None if rabbitmq_url in {"", NO_RABBITMQ} else rabbitmq_url,
        await_rabbitmq=await_rabbitmq,
    )


def start_postgres(supervisor: Supervisor, folder: Path, *, durable: bool) -> str:
    """Start the embedded PostgreSQL and wait for it; returns its URL."""
    postgres = Postgres(folder / "postgres", folder / "logs", durable=durable)
    supervisor.start(postgres.process()).await_ready(postgres.is_ready)
    return postgres.url


def require_database(url: str) -> None:
    """Raise CannotStart when the database does not answer, or not to us."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise CannotStart(f"DATABASE_URL cannot be used: {reason}") from None
