"""How the size of the tables tells: accept, drain and metrics at up to 10,000,000 payments (`make bench GROWTH=1`)."""

import os
import shutil
from dataclasses import dataclass, replace
from typing import Final

from bench.figures import Figure
from bench.load import Load, measure
from bench.options import Options
from bench.ours.drain import drain
from bench.ours.house import House
from bench.ours.metrics import rebuild
from bench.ours.past import come_to_rest, write_past
from bench.stage import Stage, a_prefix
from deploy.local.machine import CannotStart

SMALLEST: Final = 10_000
#: What one payment of the past takes on disk, with its indexes and its share of the log, rounded up.
BYTES: Final = 6_000
SIZES: Final = (100_000, 1_000_000, 10_000_000)
#: A small database is measured beside each size, in turn with it, as machines drift; always a fresh copy. The first
#: turns may find the disk still busy with what was written.
TURNS: Final = 5
SMALL, COPY, LARGE = "growth_small", "growth_copy", "growth_large"


@dataclass(slots=True)
class Growth:
    """Two databases, one that stays small and one that grows; each size is compared with the small one beside it."""

    stage: Stage
    options: Options
    house: House
    name: str = "growth"
    size: int = 0

    def start(self) -> None:
        """The small one; the other begins empty.

        Raises:
            CannotStart: the disk is too small, or there is no such size.
        """
        if not sizes():
            raise CannotStart(
                f"There are the sizes {', '.join(map(str, SIZES))}; GROWTH_FROM and GROWTH_TO leave none."
            )
        needed = sizes()[-1] * BYTES
        if shutil.disk_usage(self.stage.folder).free < needed:
            raise CannotStart(f"This takes {needed / 1e9:.0f} GB of disk; GROWTH_TO=1000000 takes a tenth.")
        for database in (SMALL, LARGE):
            self.house.create(database)
        write_past(self.stage, SMALL, number=SMALLEST)

    def measure(self) -> list[Figure]:
        """Accepts and drained payments a second, and a rebuild of the metrics, for each size."""
        figures: list[Figure] = []
        for following in sizes():
            if following <= self.size:
                continue  # measured in a round before: it takes hours, and each size has its small one beside it
            write_past(self.stage, LARGE, number=following, already=self.size)
            self.size = following
            figures.append(self.gigabytes(following))
            figures.append(rebuild(self.house, LARGE, key=f"growth_metrics_{following}", payments=following))
            for _ in range(TURNS):
                self.house.create(COPY, like=SMALL)
                figures += [*self.both(COPY, beside(following)), *self.both(LARGE, str(following))]
        return figures

    def both(self, database: str, name: str) -> list[Figure]:
        """Accepts, and then what they have left drained."""
        come_to_rest(self.stage, database)
        web = self.house.web(database)
        load = Load(
            url=web.payments, token=self.house.api_key, connections=64, seconds=self.options.seconds, prefix=a_prefix()
        )
        written = self.log_written()
        accept = measure(f"growth_accept_{name}", load, stage=self.stage, server=web.process)
        size = (self.log_written() - written) / 1e3 / max(1.0, accept.details["requests"])
        accept = replace(accept, details={**accept.details, "log_kilobytes": size})
        self.stage.stop(web.process)
        self.stage.purge()
        return [accept, drain(self.house, database, key=f"growth_drain_{name}")[0]]

    def log_written(self) -> float:
        """Bytes of write-ahead log so far: of a page that changes first after a checkpoint all is written."""
        return float(self.stage.ask("postgres", "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0])

    def gigabytes(self, size: int) -> Figure:
        """What the large database has become."""
        found = self.stage.ask(LARGE, "SELECT pg_database_size(current_database())::float / 1e9")[0]
        return Figure(key=f"growth_size_{size}", value=float(found), unit="GB")

    def stop(self) -> None:
        """They take much room."""
        for database in (SMALL, COPY, LARGE):
            self.stage.drop(database)


def beside(size: int) -> str:
    """What the small database is called that is measured beside a size: that size is compared with no other."""
    return f"{SMALLEST}_beside_{size}"


def sizes() -> tuple[int, ...]:
    """Those of this run."""
    least, most = int(os.environ.get("GROWTH_FROM") or 0), int(os.environ.get("GROWTH_TO") or SIZES[-1])
    return tuple(size for size in SIZES if least <= size <= most)
