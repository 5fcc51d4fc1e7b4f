"""The peers as subjects: what `bench/peers/` accepts, drains, and how long it takes; see its README."""

import socket
from dataclasses import dataclass
from typing import Final

import jwt

from bench.figures import Figure
from bench.load import Load, measure
from bench.options import PROCESSES, Options
from bench.ours.drain import LIMIT
from bench.ours.latency import WARM_UP, Target
from bench.peers import SCHEMA
from bench.stage import Stage, a_port, a_prefix, eventually
from deploy.local.supervisor import Process

#: Threads of one Celery worker: as many as ours.
THREADS: Final = 8
CELERY: Final = "peer_celery"
#: From the first end to the last.
DRAINED: Final = "SELECT count(*), extract(epoch FROM max(finished_at) - min(finished_at))::float FROM payment"
PENDING: Final = """
    INSERT INTO payment (id, merchant, idempotency_key, order_id, user_id, amount, currency, status, description,
                         metadata, payment_method, created_at)
    SELECT gen_random_uuid(), 'demo', i, i, 'customer-7', 1000, 'EUR', 'pending', '', '{{}}', 'pm_ok', now()
    FROM generate_series(1, {number}) AS i
"""


@dataclass(slots=True)
class Peer:
    """A FastAPI service under uvicorn, one process for each core."""

    stage: Stage
    options: Options
    name: str
    server: Process | None = None
    url: str = ""

    @property
    def database(self) -> str:
        """Its own."""
        return f"peer_{self.name}"

    @property
    def env(self) -> dict[str, str]:
        """What it reads from the environment."""
        urls = {"DATABASE_URL": self.stage.url_of(self.database), "RABBITMQ_URL": self.stage.rabbitmq.url}
        return {**urls, "JWT_SIGNING_KEY": self.stage.jwt_key}

    @property
    def token(self) -> str:
        """A token that it takes."""
        return jwt.encode({"sub": "demo"}, self.stage.jwt_key, algorithm="HS256")

    def start(self) -> None:
        """Its database and server."""
        self.stage.create(self.database)
        self.stage.run_sql(self.database, SCHEMA.read_text())
        port = a_port()
        app = f"bench.peers.fastapi_{self.name}_app:app"
        how = ["--port", str(port), "--workers", str(PROCESSES), "--no-access-log", "--log-level", "warning"]
        self.server = self.stage.python(self.database, "-m", "uvicorn", app, *how, env=self.env, peer=True)
        self.url = f"http://127.0.0.1:{port}/payments"
        self.server.await_ready(lambda: listens(port))

    def stop(self) -> None:
        """Its server."""
        if self.server is not None:
            self.stage.stop(self.server)


@dataclass(slots=True)
class PeerAccept(Peer):
    """New payments over 64 connections."""

    def measure(self) -> list[Figure]:
        """Requests a second."""
        assert self.server is not None
        load = Load(url=self.url, token=self.token, connections=64, seconds=self.options.seconds, prefix=a_prefix())
        return [measure(f"{self.name}_accept_64", load, stage=self.stage, server=self.server)]


@dataclass(slots=True)
class PeerLatency(Peer):
    """From acceptance to end at 10 payments a second, by its relay and its worker."""

    @property
    def database(self) -> str:
        """Apart from that of the accepts, whose outbox its poll would take hours to empty."""
        return f"peer_{self.name}_latency"

    def measure(self) -> list[Figure]:
        """The median, with the other percentiles."""
        relay = self.stage.python("peer_relay", "-m", f"bench.peers.fastapi_{self.name}_relay", env=self.env, peer=True)
        worker = self.stage.python(
            "peer_worker", "-m", f"bench.peers.fastapi_{self.name}_worker", env=self.env, peer=True
        )
        target = Target(self.stage, self.database, "payment", self.url, self.token)
        target.send(rate=WARM_UP, seconds=1.0)
        eventually(lambda: self.stage.ask(self.database, "SELECT count(finished_at) FROM payment")[0], within=15)
        seconds = max(self.options.seconds, 4.0)
        figures = [target.time(f"{self.name}_latency_10", rate=10, seconds=seconds)]
        self.stage.stop(relay, worker)
        return figures


@dataclass(slots=True)
class CeleryDrain:
    """Tasks that wait in RabbitMQ, worked off by Celery's workers with threads."""

    stage: Stage
    options: Options
    name: str = "celery"

    @property
    def env(self) -> dict[str, str]:
        """What it reads from the environment."""
        return {"DATABASE_URL": self.stage.url_of(CELERY), "RABBITMQ_URL": self.stage.rabbitmq.url}

    def start(self) -> None:
        """All is made anew for each measurement."""

    def measure(self) -> list[Figure]:
        """Payments a second, from the first end to the last."""
        self.stage.create(CELERY)
        self.stage.run_sql(CELERY, SCHEMA.read_text(), PENDING.format(number=self.options.backlog), "VACUUM ANALYZE")
        self.stage.purge()
        backlog = self.stage.python("peer_backlog", "-m", "bench.peers.django_celery.backlog", env=self.env, peer=True)
        eventually(lambda: backlog.pid is None, within=LIMIT, every=0.1)
        self.stage.stop(backlog)
        workers = [self.worker(number) for number in range(PROCESSES)]
        open_ = "SELECT count(*) FROM payment WHERE finished_at IS NULL"
        done = eventually(lambda: not self.stage.ask(CELERY, open_)[0], within=LIMIT, every=0.1)
        count, seconds = self.stage.ask(CELERY, DRAINED)
        self.stage.stop(*workers)
        fault = "" if done else f"{self.stage.ask(CELERY, open_)[0]} were left after {LIMIT:.0f} s"
        return [Figure(key="celery_drain", value=count / (seconds or 1.0), unit="payments/s", fault=fault)]

    def worker(self, number: int) -> Process:
        """One worker process with threads."""
        how = [
            "--pool",
            "threads",
            "--concurrency",
            str(THREADS),
            "--loglevel",
            "WARNING",
            "--hostname",
            f"w{number}@%h",
        ]
        argv = ["-m", "celery", "--app", "bench.peers.django_celery.app", "worker", "--loglevel", "WARNING", *how]
        return self.stage.python(f"peer_celery-{number}", *argv, env=self.env, peer=True)

    def stop(self) -> None:
        """Nothing runs between measurements."""


def listens(port: int) -> bool:
    """Whether somebody answers there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
