"""How long a payment takes from its acceptance to its end, at a steady rate, with nothing waiting before it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from bench.client import payment, send_steadily
from bench.figures import Figure
from bench.options import Options
from bench.ours.house import House
from bench.stage import Stage, a_prefix, eventually

DATABASE: Final = "latency"
#: Seconds after which what is not final counts as lost.
PATIENCE: Final = 20.0
#: By the system's own records, which are of one machine and one clock. What is not final by then makes a fault.
TIMES: Final = """
    SELECT count(*) FILTER (WHERE finished_at IS NOT NULL),
           coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (
               ORDER BY extract(epoch FROM finished_at - created_at) * 1000), ARRAY[0, 0, 0]::float[])
    FROM {table} WHERE order_id LIKE %s
"""
#: Until caches, connections and prepared statements are as they are in a running system.
WARM_UP: Final = 20


@dataclass(slots=True)
class Latency:
    """An open loop of payments at each rate, through web, relay, RabbitMQ and workers."""

    stage: Stage
    options: Options
    house: House
    name: str = "latency"

    def start(self) -> None:
        """All is made anew for each measurement."""

    def measure(self) -> list[Figure]:
        """The median, with the other percentiles, for each rate."""
        self.stage.purge()
        self.house.create(DATABASE)
        web = self.house.web(DATABASE)
        others = [*self.house.begin("relay", DATABASE), *self.house.begin_workers(DATABASE)]
        self.house.await_beats(DATABASE, "relay")
        target = Target(self.stage, DATABASE, "payments_payment", web.payments, self.house.api_key)
        seconds = max(self.options.seconds, 4.0)
        target.send(rate=WARM_UP, seconds=1.0)
        figures = [target.time(f"latency_{rate}", rate=rate, seconds=seconds) for rate in self.options.rates]
        self.stage.stop(web.process, *others)
        return figures

    def stop(self) -> None:
        """Nothing runs between measurements."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where payments are sent, and where their times stand."""

    stage: Stage
    database: str
    table: str
    url: str
    token: str

    def time(self, key: str, *, rate: float, seconds: float) -> Figure:
        """Send so many a second; the times from acceptance to end (ms)."""
        prefix, sent = self.send(rate=rate, seconds=seconds)
        pattern, query = f"{prefix}-%", TIMES.format(table=self.table)
        eventually(lambda: self.stage.ask(self.database, query, pattern)[0] >= sent, within=PATIENCE, every=0.2)
        ended, (p50, p95, p99) = self.stage.ask(self.database, query, pattern)
        fault = "" if ended == sent else f"{sent - ended} of {sent} did not end within {PATIENCE:.0f} s"
        details = {"p50": p50, "p95": p95, "p99": p99, "payments": sent}
        return Figure(key=key, value=p50, unit="ms", details=details, fault=fault)

    def send(self, *, rate: float, seconds: float) -> tuple[str, int]:
        """Their prefix, and how many they are."""
        prefix = a_prefix()

        def make(number: int) -> bytes:
            return payment(self.url, name=f"{prefix}-{number}", token=self.token)

        report = asyncio.run(send_steadily(self.url, make, rate=rate, seconds=seconds))
        return prefix, len(report.latencies) + report.broken
