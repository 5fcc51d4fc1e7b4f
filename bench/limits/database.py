"""PostgreSQL's limit: the least durable work of one accepted payment, by pgbench with 16 clients."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.options import Options
from bench.peers import SCHEMA
from bench.processes import own_children_seconds
from bench.stage import Stage, run_to_end
from deploy.local.machine import CannotStart
from deploy.local.postgres import find_programs

CLIENTS: Final = 16
TPS: Final = re.compile(r"tps = ([0-9.]+)")


@dataclass(slots=True)
class DatabaseLimit:
    """`tx`: payment and outbox row, two statements in a transaction; `one`: the same as one statement."""

    stage: Stage
    options: Options
    name: str

    @property
    def database(self) -> str:
        """Its own."""
        return f"limit_{self.name}"

    def start(self) -> None:
        """A database with the peers' tables."""
        self.stage.create(self.database)
        self.stage.run_sql(self.database, SCHEMA.read_text())

    def measure(self) -> list[Figure]:
        """Transactions a second."""
        seconds, script = max(1, round(self.options.seconds)), Path(__file__).parent / f"{self.name}.sql"
        how = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-T", str(seconds), "-f", str(script)]
        before, database = own_children_seconds(), self.stage.server_cpu()["postgres"]
        said = run_to_end([find_pgbench(), *how, self.stage.url_of(self.database)], env={}, within=seconds + 60)
        cores = {
            "cpu_load": (own_children_seconds() - before) / seconds,
            "cpu_postgres": (self.stage.server_cpu()["postgres"] - database) / seconds,
        }
        found = TPS.search(said)
        assert found, said
        return [Figure(key=self.name, value=float(found[1]), unit="tx/s", details=cores)]

    def stop(self) -> None:
        """Nothing runs."""


def find_pgbench() -> str:
    """The wheel's own, or the machine's."""
    wheels = find_programs() / "pgbench"
    found = str(wheels) if wheels.exists() else shutil.which("pgbench")
    if not found:
        raise CannotStart("There is no pgbench: install PostgreSQL's client programs (Debian: postgresql-contrib).")
    return found
