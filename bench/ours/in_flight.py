"""How many calls a worker has in flight at a gateway that takes 2 seconds; counted at the gateway."""

import time
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure
from bench.options import Options
from bench.ours.backlog import copy_backlog
from bench.ours.house import House, memory
from bench.stage import Stage

DATABASE: Final = "in_flight"
#: Seconds that the gateway takes, and that we watch.
DELAY, WATCHED = 2.0, 6.0


@dataclass(slots=True)
class InFlight:
    """One worker process before a backlog."""

    stage: Stage
    options: Options
    house: House
    name: str = "in_flight"

    def start(self) -> None:
        """The backlog is made when it is copied."""

    def measure(self) -> list[Figure]:
        """The most calls at the same time."""
        copy_backlog(self.house, DATABASE)
        folder = self.stage.folder / "in_flight"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        slow = {"BENCH_GATEWAY_DELAY": str(DELAY), "BENCH_GATEWAY_FOLDER": str(folder)}
        relays = self.house.begin("relay", DATABASE)
        workers = self.house.begin("worker", DATABASE, more=slow)
        self.house.await_beats(DATABASE, "worker")
        time.sleep(WATCHED)
        most = max((int(file.read_text() or 0) for file in folder.iterdir()), default=0)
        size = memory("worker_in_flight", workers)
        self.stage.stop(*relays)
        for worker in workers:
            worker.stop(timeout=2 * DELAY)
            self.stage.running.remove(worker)
        self.stage.drop(DATABASE)
        return [Figure(key="in_flight", value=float(most), unit="calls"), size]

    def stop(self) -> None:
        """Nothing runs between measurements."""
