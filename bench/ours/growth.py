"""How the size of the tables tells: accept and drain at 10,000 to 10,000,000 payments (`make bench GROWTH=1`)."""

import os
from dataclasses import dataclass
from typing import Final

from bench.figures import Figure
from bench.load import Load, measure
from bench.options import Options
from bench.ours.drain import drain
from bench.ours.house import House
from bench.ours.past import write_past
from bench.stage import Stage, a_prefix

SMALLEST: Final = 10_000
SIZES: Final = (100_000, 1_000_000, 10_000_000)
#: A small database is measured beside each size, as machines drift within the hours of a run: always a fresh copy.
SMALL, COPY, LARGE = "growth_small", "growth_copy", "growth_large"


@dataclass(slots=True)
class Growth:
    """Two databases, one that stays small and one that grows; each size is compared with the small one beside it."""

    stage: Stage
    options: Options
    house: House
    name: str = "growth"

    def start(self) -> None:
        """The small one; the other begins empty."""
        for database in (SMALL, LARGE):
            self.house.create(database)
        write_past(self.stage, SMALL, number=SMALLEST)

    def measure(self) -> list[Figure]:
        """Accepts and drained payments a second, for each size up to `GROWTH_TO`."""
        figures, size = [], 0
        for following in sizes():
            write_past(self.stage, LARGE, number=following, already=size)
            size = following
            self.house.create(COPY, like=SMALL)
            figures += [*self.both(COPY, SMALLEST), *self.both(LARGE, size), self.gigabytes(size)]
        return figures

    def both(self, database: str, size: int) -> list[Figure]:
        """Accepts, and then what they have left drained."""
        web = self.house.web(database)
        load = Load(
            url=web.payments, token=self.house.api_key, connections=64, seconds=self.options.seconds, prefix=a_prefix()
        )
        accept = measure(f"growth_accept_{size}", load, stage=self.stage, server=web.process)
        self.stage.stop(web.process)
        self.stage.purge()
        return [accept, drain(self.house, database, key=f"growth_drain_{size}")[0]]

    def gigabytes(self, size: int) -> Figure:
        """What the large database has become."""
        found = self.stage.ask(LARGE, "SELECT pg_database_size(current_database())::float / 1e9")[0]
        return Figure(key=f"growth_size_{size}", value=float(found), unit="GB")

    def stop(self) -> None:
        """They take much room."""
        for database in (SMALL, COPY, LARGE):
            self.stage.drop(database)


def sizes() -> tuple[int, ...]:
    """Those of this run."""
    most = int(os.environ.get("GROWTH_TO") or SIZES[-1])
    return tuple(size for size in SIZES if size <= most)
