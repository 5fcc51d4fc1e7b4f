"""The daily metrics: all of them computed anew, against one scan of the same payments."""

import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import psycopg

from bench.figures import Figure
from bench.options import Options
from bench.ours.house import House
from bench.ours.past import write_past
from bench.stage import Stage

DATABASE: Final = "metrics"
#: How often each is measured.
TURNS: Final = 3
SCAN: Final = "SELECT count(*), sum(amount) FROM payments_payment"
#: By the run's own record, as the start of a Python process is not what is asked for.
REBUILT: Final = """
    SELECT extract(epoch FROM finished_at - started_at)::float FROM analytics_metricsrun ORDER BY id DESC LIMIT 1
"""


@dataclass(slots=True)
class Metrics:
    """`manage.py compute_daily_metrics --rebuild` over a past of many days."""

    stage: Stage
    options: Options
    house: House
    name: str = "metrics"

    def start(self) -> None:
        """The past."""
        self.house.create(DATABASE)
        write_past(self.stage, DATABASE, number=self.options.past)

    def measure(self) -> list[Figure]:
        """How many scans a rebuild takes."""
        return [rebuild(self.house, DATABASE, key="metrics", payments=self.options.past)]

    def stop(self) -> None:
        """Nothing runs."""


def rebuild(house: House, database: str, *, key: str, payments: int) -> Figure:
    """How many scans of its payments a rebuild of all days takes: medians of some of both, in turn."""
    scan(house, database)  # the first one also reads from disk and marks what is committed
    scans, rebuilds = [], []
    for _ in range(TURNS):
        scans.append(scan(house, database))
        house.manage(database, "compute_daily_metrics", "--rebuild")
        rebuilds.append(float(house.stage.ask(database, REBUILT)[0]))
    seconds, seconds_scan = median(rebuilds), median(scans)
    details = {"seconds_rebuild": seconds, "seconds_scan": seconds_scan, "payments": payments}
    return Figure(key=key, value=seconds / seconds_scan, unit="scans", details=details)


def scan(house: House, database: str) -> float:
    """Seconds of one scan, without those of connecting."""
    with psycopg.connect(house.stage.url_of(database), autocommit=True) as connection:
        began = time.perf_counter()
        connection.execute(SCAN).fetchone()
        return time.perf_counter() - began
