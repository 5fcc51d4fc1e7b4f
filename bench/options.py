"""What a run is asked for, from the environment: `make bench QUICK=1 RUNS=3 SECONDS=8`."""

import os
from dataclasses import dataclass
from typing import Final

FULL: Final = {"RUNS": 3, "SECONDS": 8, "BACKLOG": 20_000, "HOOKS": 2_000, "PAST": 500_000, "RATES": "1,10,50"}
QUICK: Final = {"RUNS": 1, "SECONDS": 2, "BACKLOG": 1_000, "HOOKS": 100, "PAST": 30_000, "RATES": "10"}
#: Processes of each kind that do the work: web, workers, and those of the peers. One for each core.
PROCESSES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long and how much. `seconds` is the length of one measurement, at most 40: a
    token, which serves seven of them, lasts five minutes; `only` names subjects, or is empty: all.
    """

    quick: bool
    runs: int
    seconds: float
    backlog: int
    hooks: int
    past: int
    rates: tuple[int, ...]
    only: tuple[str, ...]


def read_options() -> Options:
    """The options of this run."""
    quick = is_on("QUICK")
    given = {name: os.environ.get(name) or str(default) for name, default in (QUICK if quick else FULL).items()}
    return Options(
        quick=quick,
        runs=int(given["RUNS"]),
        seconds=float(given["SECONDS"]),
        backlog=int(given["BACKLOG"]),
        hooks=int(given["HOOKS"]),
        past=int(given["PAST"]),
        rates=tuple(int(rate) for rate in given["RATES"].split(",")),
        only=tuple(name for name in os.environ.get("ONLY", "").split(",") if name),
    )


def is_on(name: str) -> bool:
    """Whether a switch is on."""
    return os.environ.get(name, "") not in {"", "0", "no", "false"}
