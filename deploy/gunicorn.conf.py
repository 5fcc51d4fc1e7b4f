"""How gunicorn serves the web process; the address to bind is given on the command line.

https://docs.gunicorn.org/en/stable/settings.html
"""

import asyncio
import os
import signal
from importlib import import_module
from typing import Any

from gunicorn.workers.gasgi import ASGIWorker
from prometheus_client import multiprocess

workers = int(os.environ.get("WEB_PROCESSES", "2"))
asgi_lifespan = "off"
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


class Worker(ASGIWorker):
    """Gunicorn's own, which on its way out waits for requests, and not for connections over which none is under way.

    Those of clients who keep them open would use up its whole grace each time.
    """

    async def _shutdown(self) -> None:
        ends = self.loop.time() + self.cfg.graceful_timeout
        for server in self.servers:
            server.close()
        while self.asgi.under_way and self.loop.time() < ends:  # noqa: ASYNC110  # it tells only who asks
            await asyncio.sleep(0.02)  # the application, which knows, is none of ours here
        self._quick_shutdown = True
        await super()._shutdown()


worker_class = Worker


def post_worker_init(worker: Any) -> None:
    """When the process is told to stop, answer those who wait for a payment at once: they may outlive its grace."""
    room = import_module("payments.waiting").room

    def stop() -> None:
        worker.handle_exit_signal()
        room.close()

    worker.loop.add_signal_handler(signal.SIGTERM, stop)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead process's gauges out of the metrics."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(worker.pid)
