"""Small jobs that the relay process runs between two batches; the settings name them."""

import time
from collections.abc import Callable, Mapping
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


def jobs_of(intervals: Mapping[str, float]) -> list[Job]:
    """The jobs of a setting: dotted name -> seconds between two runs."""
    return [Job(name, import_string(name), interval) for name, interval in intervals.items()]


@dataclass(slots=True)
class PeriodicJobs:
    """Runs each job when its time has come. A failing job is logged and comes again at its next time."""

    jobs: list[Job] = field(default_factory=lambda: jobs_of(settings.RELAY_PERIODIC_JOBS))

    def run_due(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Run what is due now."""
        for job in self.jobs:
            if job.due_at > clock():
                continue
            try:
                job.run()
            except Exception as error:
                log.exception("periodic_job_failed", job=job.name)
                if isinstance(error, Error):
                    connection.close()
            job.due_at = clock() + job.interval
