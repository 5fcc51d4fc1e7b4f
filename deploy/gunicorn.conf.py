"""How gunicorn serves the web process; the address to bind is given on the command line.

https://docs.gunicorn.org/en/stable/settings.html
"""

import os
import signal
from importlib import import_module
from typing import Any

from prometheus_client import multiprocess

workers = int(os.environ.get("WEB_PROCESSES", "2"))
worker_class = "gthread"
#: So many requests may wait at the same time and share a statement (docs/adr/0020). Each thread keeps one database
#: connection. `config.environment` reads the same variable: half of them may wait.
threads = int(os.environ.get("WEB_THREADS", "16"))
#: Load the application once, then fork: faster start, shared memory.
preload_app = True
#: Above `lock_timeout`, the longest that a request waits in the database.
timeout = 30
graceful_timeout = 25
keepalive = 30
accesslog = None
errorlog = "-"
loglevel = "warning"
#: Heartbeat files on a disk can block a worker; memory cannot.
MEMORY = "/dev/shm"  # noqa: S108  # a fixed place, which nobody can choose  # nosec B108
worker_tmp_dir = MEMORY if os.path.isdir(MEMORY) else None  # noqa: PTH112  # looked at once


def post_worker_init(worker: Any) -> None:
    """When the process is told to stop, answer those who wait for a payment at once: they may outlive its grace."""
    room = import_module("payments.waiting").room

    def stop(number: int, frame: Any) -> None:
        worker.handle_exit(number, frame)
        room.close()

    signal.signal(signal.SIGTERM, stop)
    signal.siginterrupt(signal.SIGTERM, False)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead process's gauges out of the metrics."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(worker.pid)
