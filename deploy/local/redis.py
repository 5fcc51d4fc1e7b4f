"""A private Redis from the machine's own `redis-server`, which keeps nothing."""

import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.machine import free_port
from deploy.local.supervisor import Process


def find_redis() -> str | None:
    """The machine's redis-server, if it has one."""
    return shutil.which("redis-server")


@dataclass(slots=True)
class Redis:
    """One server; `url` reaches it."""

    log_folder: Path
    server: str
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """How to connect; from this machine only."""
        return f"redis://127.0.0.1:{self.port}/0"

    def process(self) -> Process:
        """The server, with its memory as its only storage."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        return Process("redis", [self.server, *options, "--maxmemory", "64mb"], self.log_folder)

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
