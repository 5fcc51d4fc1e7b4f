"""Small jobs that the relay process runs between two batches, named in the setting `RELAY_PERIODIC_JOBS`."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from django.conf import settings
from django.db import Error, connection
from django.utils.module_loading import import_string

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Job:
    """A function without arguments, and when it is due next (monotonic seconds)."""

    name: str
    run: Callable[[], object]
    interval: float
    due_at: float = 0.0


def configured_jobs() -> list[Job]:
    """The jobs that the settings name."""
    return [Job(name, import_string(name), interval) for name, interval in settings.RELAY_PERIODIC_JOBS.items()]


@dataclass(slots=True)
class PeriodicJobs:
    """Runs each job when its time has come. A failing job is logged and comes again at its next time."""

    jobs: list[Job] = field(default_factory=configured_jobs)

    def run_due(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Run what is due now."""
        for job in self.jobs:
            if job.due_at > clock():
                continue
            try:
                job.run()
            except Error:
                log.warning("periodic_job_failed", job=job.name, exc_info=True)
                connection.close()
            job.due_at = clock() + job.interval
