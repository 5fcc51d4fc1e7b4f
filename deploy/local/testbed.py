"""`python -m deploy.local.testbed COMMAND…`: run a command, such as the tests, beside real servers.

DATABASE_URL and RABBITMQ_URL name the servers; those that are not set are started for this run alone, in a
folder that is deleted at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from deploy.local.machine import CannotStart
from deploy.local.rabbitmq import find_server
from deploy.local.redis import find_redis
from deploy.local.servers import start_servers
from deploy.local.supervisor import Supervisor

MISSING_RABBITMQ: Final = (
    "The tests need a RabbitMQ: install the package rabbitmq-server (Debian/Ubuntu as root: apt-get install -y "
    "rabbitmq-server; macOS: brew install rabbitmq), or set RABBITMQ_URL to a node that may be used for tests."
)
MISSING_REDIS: Final = (
    "The tests need a redis-server, of which they start private ones: install the package redis-server (Debian/Ubuntu "
    "as root: apt-get install -y redis-server; macOS: brew install redis)."
)


def main(command: list[str]) -> int:
    """The command's exit status; 1 if the servers cannot be started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="payments-test-"))
    supervisor = Supervisor(say=print)
    try:
        install_rabbitmq()
        install_redis()
        # The tests that crash PostgreSQL start one of their own, which is durable.
        servers = start_servers(supervisor, folder, durable=False)
        servers.await_rabbitmq()
        env = {
            **os.environ,
            "ENVIRONMENT": "development",
            "DATABASE_URL": servers.database_url,
            "RABBITMQ_URL": servers.rabbitmq_url or "",
        }
        return subprocess.run(command, env=env, check=False).returncode
    except CannotStart as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        supervisor.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def install_rabbitmq() -> None:
    """On Debian and Ubuntu as root, install rabbitmq-server where it is missing; elsewhere say what to do."""
    if not os.environ.get("RABBITMQ_URL") and not find_server():
        install("rabbitmq-server", otherwise=MISSING_RABBITMQ)


def install_redis() -> None:
    """The same for redis-server."""
    if not find_redis():
        install("redis-server", otherwise=MISSING_REDIS)


def install(package: str, *, otherwise: str) -> None:
    """Install a package by apt-get. Raises CannotStart, with what to do, where that is not possible."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotStart(otherwise)
    print(f"Installing {package} with apt-get, once …", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        done = subprocess.run(["apt-get", *arguments], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotStart(f"{otherwise}\napt-get said: {done.stderr.strip()[-1000:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
