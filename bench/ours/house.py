"""How our processes are started for a measurement: as `make run` starts them, over a database of their own."""

import json
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.figures import Figure
from bench.options import PROCESSES, Options
from bench.processes import children, megabytes
from bench.stage import ROOT, Stage, a_port, eventually, run_to_end
from deploy.local.__main__ import DIRECT, environment, healthy, web_command
from deploy.local.demo import keep_secrets
from deploy.local.machine import CannotStart
from deploy.local.servers import Servers
from deploy.local.supervisor import Process

#: A database with the demo merchant and nothing else; the others are copies of it.
BASE: Final = "base"
#: What differs from the defaults: no limit is reached, and nobody is told by mail.
SETTINGS: Final = {
    "LIMIT_READS": "1000000/m",
    "LIMIT_WRITES": "1000000/m",
    "LIMIT_LOGINS": "1000000/m",
    "CREATION_BURST": "1000000",
    "CREATION_RATE": "100000",
    "EMAIL_BACKEND": "off",
    "SMS_BACKEND": "off",
    "WEB_PROCESSES": str(PROCESSES),
}
NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Web:
    """A web process that answers."""

    process: Process
    url: str

    @property
    def payments(self) -> str:
        """Where payments are made."""
        return f"{self.url}/api/v1/payments"


@dataclass(slots=True)
class House:
    """Our processes on a stage; databases are made from `BASE`, which is made when it is first needed."""

    stage: Stage
    options: Options
    has_base: bool = False
    info: dict[str, Any] = field(default_factory=dict)

    def env(self, database: str) -> dict[str, str]:
        """The variables of all of our processes; those of `make run`, and what this module says."""
        kept = keep_secrets(self.stage.folder / "secrets.json")
        self.info = {"sandbox_url": "http://127.0.0.1:1", "admin_user": "admin"}
        self.info |= {"admin_password": kept.admin_password, "api_key": kept.api_key}
        servers = Servers(self.stage.url_of(database), self.stage.rabbitmq.url, lambda: None)
        ours = environment(self.info, kept, servers, self.stage.folder)
        return {**ours, **SETTINGS, "DJANGO_SETTINGS_MODULE": "bench.settings"}

    def create(self, database: str, *, like: str = BASE) -> None:
        """A fresh database."""
        if not self.has_base:
            self.has_base = True
            self.stage.create(BASE)
            self.manage(BASE, "seed_demo", "--without-payments")
        self.stage.create(database, like=like)

    def manage(self, database: str, *arguments: str) -> str:
        """Run a management command."""
        return run_to_end([sys.executable, str(ROOT / "manage.py"), *arguments], env=self.env(database))

    # --- processes

    def web(self, database: str, *, more: Mapping[str, str] = NOTHING) -> Web:
        """The web process, once it answers."""
        port = a_port()
        metrics = self.stage.folder / f"metrics-{port}"
        metrics.mkdir()
        env = {**self.env(database), "PROMETHEUS_MULTIPROC_DIR": str(metrics), **more}
        process = self.stage.start(Process(f"web-{database}", web_command(port), self.stage.logs, env=env))
        process.await_ready(lambda: healthy(f"http://127.0.0.1:{port}", "/livez"))
        return Web(process, f"http://127.0.0.1:{port}")

    def begin(self, name: str, database: str, *, number: int = 1, more: Mapping[str, str] = NOTHING) -> list[Process]:
        """Start so many `relay`, `worker` or `intake` processes."""
        argv, env = [sys.executable, str(ROOT / "manage.py"), name], {**self.env(database), **more}
        return [
            self.stage.start(Process(f"{name}-{database}-{index}", argv, self.stage.logs, env=env))
            for index in range(number)
        ]

    def begin_workers(self, database: str) -> list[Process]:
        """As many workers as there are cores, once all show signs of life."""
        workers = self.begin("worker", database, number=PROCESSES)
        self.await_beats(database, "worker", PROCESSES)
        return workers

    def await_beats(self, database: str, name: str, number: int = 1) -> None:
        """Wait until processes show signs of life."""
        query = "SELECT count(*) FROM messaging_heartbeat WHERE process = %s AND beat_at > now() - interval '1 minute'"
        if not eventually(lambda: self.stage.ask(database, query, name)[0] >= number, within=60):
            raise CannotStart(f"No {name} has come up; see {self.stage.logs}.")

    # --- credentials

    def token(self, web: Web) -> str:
        """An access token of a person, as from the login page; it lasts five minutes."""
        login = {"username": self.info["admin_user"], "password": self.info["admin_password"]}
        asked = urllib.request.Request(  # noqa: S310  # our own address
            f"{web.url}/api/v1/token", json.dumps(login).encode(), {"Content-Type": "application/json"}
        )
        with DIRECT.open(asked, timeout=30) as response:
            return str(json.load(response)["access"])

    @property
    def api_key(self) -> str:
        """The demo merchant's key."""
        return keep_secrets(self.stage.folder / "secrets.json").api_key


def memory(name: str, processes: Iterable[Process], *, workers_only: bool = False) -> Figure:
    """The resident memory of the largest of some processes; of a web server the largest of its children."""
    pids = [process.pid for process in processes if process.pid]
    if workers_only:
        pids = [child for pid in pids for child in children(pid)]
    return Figure(key=f"memory_{name}", value=max(megabytes(pids), default=0.0), unit="MB")
