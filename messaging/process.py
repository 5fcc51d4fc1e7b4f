"""How a long-running process of ours starts its workers and hears that it shall stop."""

import signal
from collections.abc import Iterable, Mapping
from threading import Event, Thread
from typing import Final

import dramatiq
from django.utils.module_loading import autodiscover_modules
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


def load_actors() -> None:
    """Have the broker know every app's `actors`. What they load is not for processes that run none."""
    autodiscover_modules("actors")


def start_workers(queues: Mapping[str, int]) -> list[Worker]:
    """Start consuming: each queue with so many threads of its own, so that none can use up another's."""
    load_actors()
    workers = [Worker(dramatiq.get_broker(), queues={queue}, worker_threads=count) for queue, count in queues.items()]
    for worker in workers:
        worker.start()
    return workers


def stop_workers(workers: Iterable[Worker]) -> None:
    """Finish the work in hand, all at the same time."""
    stopping = [Thread(target=worker.stop, kwargs={"timeout": STOP_TIMEOUT}) for worker in workers]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join()
