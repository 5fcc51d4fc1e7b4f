"""A streaming standby of a system's PostgreSQL, made by its own tools, and the failover to it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from deploy.local.machine import as_nobody
from deploy.local.postgres import USER, Postgres, find_programs
from deploy.local.supervisor import Process
from tests.system import System, eventually
from tests.tcp_proxy import TcpProxy

#: A standby looks for its primary again after this long; the default of 5 s is for networks.
OPTIONS = ("-c", "wal_retrieve_retry_interval=200ms")


class Standby:
    """A physical standby of the system's primary. `link` is the connection between the two, which a test can cut."""

    def __init__(self, system: System, name: str = "standby") -> None:
        self.system = system
        self.name = name
        self.link = TcpProxy(system.postgres.port)
        folder = system.postgres.folder.parent / name
        self.postgres = Postgres(folder, system.logs, password=system.postgres.password)
        self._copy_primary(folder)
        self.process: Process = self.postgres.process()
        self.process.name = f"postgres_{name}"
        # The name by which the primary knows it.
        self.process.argv += ["-c", f"cluster_name={name}", *OPTIONS]
        self.start()

    def _copy_primary(self, folder: Path) -> None:
        """Make the standby's cluster by pg_basebackup, which also names the primary in its configuration."""
        folder.mkdir()
        (folder / "password").write_text(self.postgres.password)
        argv = [str(find_programs() / "pg_basebackup"), "--pgdata", str(self.postgres.cluster), "--no-sync"]
        argv += ["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]
        argv += ["--host=127.0.0.1", f"--port={self.link.port}", f"--username={USER}"]
        env = {**os.environ, "PGPASSWORD": self.postgres.password}
        done = subprocess.run(as_nobody(argv), env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it and wait until it streams from the primary."""
        self.process.start()
        self.system.processes[self.name] = self.process
        eventually(self.is_streaming, within=60, what=self.process.last_words)

    def ask_primary(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Query the primary directly, as a superuser."""
        with psycopg.connect(self._url(self.system.postgres), autocommit=True) as connection:
            return connection.execute(sql, parameters).fetchall()

    def command_primary(self, *statements: str) -> None:
        """Run statements on the primary directly, as a superuser."""
        with psycopg.connect(self._url(self.system.postgres), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def is_streaming(self, *, sync_state: str = "") -> bool:
        """Whether the primary streams to it; with `sync_state`, also whether in that way."""
        found = self.ask_primary(
            "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming' AND application_name = %s", self.name
        )
        return bool(found) and sync_state in ("", *found[0])

    def make_synchronous(self) -> None:
        """From now on each commit of the primary waits for this standby."""
        self.command_primary(
            f"ALTER SYSTEM SET synchronous_standby_names = '\"{self.name}\"'",
            "SELECT pg_reload_conf()",
        )
        eventually(lambda: self.is_streaming(sync_state="sync"), within=60, what="the standby is synchronous")

    def await_replay(self) -> None:
        """Wait until it has replayed all that the primary has written so far."""
        ((written,),) = self.ask_primary("SELECT pg_current_wal_lsn()::text")

        def has_replayed() -> bool:
            with psycopg.connect(self._url(self.postgres), autocommit=True) as connection:
                row = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone()
            return bool(row and row[0])

        eventually(has_replayed, within=60, what="the standby has replayed what was written")

    def fail_over(self) -> None:
        """The primary is lost with all its connections; this one is promoted and takes its place in the system."""
        system = self.system
        assert system.front is not None, "the system must reach PostgreSQL over its proxy"
        system.front.cut()
        system.crash_postgres()
        self.link.stop()
        with psycopg.connect(self._url(self.postgres), autocommit=True) as connection:
            row = connection.execute("SELECT pg_promote(wait => true, wait_seconds => 60)").fetchone()
        assert row == (True,), "the standby was not promoted within 60 s"
        del system.processes[self.name]
        system.postgres, system.processes["postgres"] = self.postgres, self.process
        system.front.point_to(self.postgres.port)

    def remove(self) -> None:
        """Stop it; commits of the primary wait for it no longer."""
        self.command_primary("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        self.system.processes.pop(self.name).stop()
        self.link.stop()

    @staticmethod
    def _url(postgres: Postgres) -> str:
        return f"{postgres.url.rpartition('/')[0]}/postgres"
