"""The daily metrics: all of them computed anew, against one scan of the same payments."""

import time
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure
from bench.options import Options
from bench.ours.house import House
from bench.ours.past import write_past
from bench.stage import Stage

DATABASE: Final = "metrics"
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
        self.scan()  # the first one also reads from disk and marks what is committed

    def measure(self) -> list[Figure]:
        """Seconds of a rebuild, and how many scans that is."""
        scan = self.scan()
        self.house.manage(DATABASE, "compute_daily_metrics", "--rebuild")
        rebuild = float(self.stage.ask(DATABASE, REBUILT)[0])
        details = {"seconds_rebuild": rebuild, "seconds_scan": scan, "payments": self.options.past}
        return [Figure(key="metrics", value=rebuild / scan, unit="scans", details=details)]

    def scan(self) -> float:
        """Seconds of one scan."""
        began = time.perf_counter()
        self.stage.ask(DATABASE, SCAN)
        return time.perf_counter() - began

    def stop(self) -> None:
        """Nothing runs."""
