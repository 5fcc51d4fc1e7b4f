"""What a run needs on the machine; where that is possible, it is installed."""

import os
import shutil
import sys

from bench.stage import PEERS_PYTHON
from deploy.local.machine import CannotStart
from deploy.local.testbed import install, install_rabbitmq


def prepare() -> None:
    """RabbitMQ, wrk where apt has it, and the peers' packages.

    Raises:
        CannotStart: with the mend.
    """
    install_rabbitmq()
    install_wrk()
    require_peers()


def install_wrk() -> None:
    """As root on Debian and Ubuntu; elsewhere our own client makes the load."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        try:
            install("wrk", otherwise="There is no wrk.")
        except CannotStart as reason:
            print(f"{reason} Our own client makes the load.", file=sys.stderr)


def require_peers() -> None:
    """What the Makefile installs beside our own packages."""
    if not PEERS_PYTHON.exists():
        raise CannotStart("The peers' packages are missing: run `make bench`.")
