"""What a run needs on the machine; where that is possible, it is installed."""

import os
import shutil
import subprocess
import sys
from typing import Final

from bench.stage import PEERS_PYTHON, ROOT
from deploy.local.machine import CannotStart
from deploy.local.testbed import install, install_rabbitmq

REQUIREMENTS: Final = ROOT / "requirements-bench.txt"
STAMP: Final = PEERS_PYTHON.parents[1] / "bench.installed"


def prepare() -> None:
    """RabbitMQ, wrk where apt has it, and the peers' packages in an environment of their own.

    Raises:
        CannotStart: with the mend.
    """
    install_rabbitmq()
    install_wrk()
    install_peers()


def install_wrk() -> None:
    """As root on Debian and Ubuntu; elsewhere our own client makes the load."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        try:
            install("wrk", otherwise="There is no wrk.")
        except CannotStart as reason:
            print(f"{reason} Our own client makes the load.", file=sys.stderr)


def install_peers() -> None:
    """Install anew when the requirements have changed."""
    if STAMP.exists() and STAMP.stat().st_mtime > REQUIREMENTS.stat().st_mtime:
        return
    folder = PEERS_PYTHON.parents[1]
    print(f"Installing the peers' packages into {folder.name} …", flush=True)
    for argv in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(PEERS_PYTHON), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)],
    ):
        if subprocess.run(argv, check=False).returncode:
            raise CannotStart("The peers' packages cannot be installed; what pip said stands above.")
    STAMP.touch()
