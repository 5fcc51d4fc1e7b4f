"""How a long-running process of ours starts its workers and hears that it shall stop."""

import signal
from threading import Event
from typing import Final

import dramatiq
from dramatiq import Worker

#: How long (ms) a stopping worker waits for the work in hand: above a gateway call's 20 s, below the 30 s
#: that Docker and Kubernetes grant.
STOP_TIMEOUT: Final = 25_000


def stop_on_signals() -> Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def start_worker(*, threads: int, queues: set[str] | None = None) -> Worker:
    """Start consuming with so many threads; `queues` limits to some of the queues."""
    worker = Worker(dramatiq.get_broker(), queues=queues, worker_threads=threads)
    worker.start()
    return worker
