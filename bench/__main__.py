"""`make bench`: limits, peers and ours, round by round in one run; then one table, and the goals.

Environment, or arguments of the same form: `QUICK=1`, `RUNS`, `SECONDS`, `BACKLOG`, `RATES`, `ONLY=accept,drain` (names
of subjects), `GROWTH=1` with `GROWTH_FROM=1000000` and `GROWTH_TO=1000000`, `NO_WRK=1`. `PROFILE=1` instead watches
where the time goes, and `SOAK=1`, or `python -m bench soak MINUTES=60`, how memory, tables and times do in an hour.
"""

import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from bench.figures import Figure, Results
from bench.limits.broker import BrokerLimit
from bench.limits.database import DatabaseLimit
from bench.load import generator
from bench.options import Options, is_on, read_options
from bench.ours.accept import Accept
from bench.ours.drain import Drain, Relay
from bench.ours.growth import Growth
from bench.ours.house import SETTINGS, House
from bench.ours.in_flight import InFlight
from bench.ours.intake import Intake
from bench.ours.latency import Latency
from bench.ours.metrics import Metrics
from bench.ours.webhooks import Webhooks
from bench.preparation import prepare
from bench.processes import busy_seconds, cpu_seconds
from bench.profiling import profile
from bench.rivals import CeleryDrain, PeerAccept, PeerLatency
from bench.soak import soak
from bench.stage import ROOT, Stage, a_stage
from bench.table import render
from deploy.local.machine import CannotStart

RESULTS: Final = ROOT / "bench/results"
BEGAN: Final = time.monotonic()


class Subject(Protocol):
    """What is measured once in each round. `start` and `stop` are called once in a run."""

    @property
    def name(self) -> str:
        """How the option `ONLY` names it."""

    def start(self) -> None:
        """Make what all its measurements share."""

    def measure(self) -> list[Figure]:
        """One round."""

    def stop(self) -> None:
        """End what `start` has started."""


def subjects(stage: Stage, options: Options) -> list[Subject]:
    """All of them."""
    house = House(stage, options)
    return [
        DatabaseLimit(stage, options, "tx"),
        DatabaseLimit(stage, options, "one"),
        BrokerLimit(stage, options),
        PeerAccept(stage, options, "sqlalchemy"),
        PeerAccept(stage, options, "asyncpg"),
        PeerLatency(stage, options, "sqlalchemy"),
        CeleryDrain(stage, options),
        Accept(stage, options, house),
        Relay(stage, options, house),
        Drain(stage, options, house),
        Latency(stage, options, house),
        Intake(stage, options, house),
        Webhooks(stage, options, house),
        Metrics(stage, options, house),
        InFlight(stage, options, house),
        *([Growth(stage, options, house)] if is_on("GROWTH") else []),
    ]


def main(arguments: Sequence[str]) -> int:
    """0 once all was measured, however slow it was; 1 if the machine lacks something."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    os.environ.update(dict(argument.split("=", 1) for argument in arguments if "=" in argument))
    options = read_options()
    try:
        prepare()
        if is_on("PROFILE") or "profile" in arguments:
            profile(options)
            return 0
        if is_on("SOAK") or "soak" in arguments:
            keep(soak(options), "soak")
            return 0
        with a_stage() as stage:
            results = measure(stage, options)
    except CannotStart as reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{render(results)}\n")
    keep(results, "bench")
    return 0


def keep(results: Results, name: str) -> None:
    """As JSON, beside earlier runs."""
    file = RESULTS / f"{name}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}.json"
    results.save(file)
    print(f"Kept in {file.relative_to(ROOT)}.")


def measure(stage: Stage, options: Options) -> Results:
    """Each subject once in each round, in another order each time."""
    results = Results(about=about(stage, options))
    chosen = choose(subjects(stage, options), options)
    for subject in chosen:
        say(f"preparing {subject.name}")
        subject.start()
    before, began = others_seconds(), time.monotonic()
    for number in range(options.runs):
        for subject in in_order(chosen, number):
            figures = subject.measure()
            results.add(figures)
            for figure in figures:
                say(f"round {number + 1}: {figure.key} {figure.value:,.3g} {figure.unit} {figure.fault}")
    others = (others_seconds() - before) / (time.monotonic() - began)
    results.about["everything else on the machine"] = f"{others:.2f} cores meanwhile"
    for subject in reversed(chosen):
        subject.stop()
    return results


def choose(known: Sequence[Subject], options: Options) -> list[Subject]:
    """Those that were asked for, or all.

    Raises:
        CannotStart: `ONLY` names something else.
    """
    names = [subject.name for subject in known]
    if unknown := sorted(set(options.only).difference(names)):
        raise CannotStart(f"ONLY names {', '.join(unknown)}; there are {', '.join(names)}. `growth` needs GROWTH=1.")
    return [subject for subject in known if not options.only or subject.name in options.only]


def others_seconds() -> float:
    """CPU seconds of all that is none of ours: where it is much, the figures say little."""
    return busy_seconds() - cpu_seconds(os.getpid())


def in_order(chosen: Sequence[Subject], number: int) -> list[Subject]:
    """The first round as written, the others shuffled: nobody always comes after the same one."""
    dice = random.Random(number)  # noqa: S311  # nothing secret  # nosec B311
    return list(chosen) if not number else dice.sample(chosen, len(chosen))


def about(stage: Stage, options: Options) -> dict[str, object]:
    """What a reader must know of the run."""
    settings = {name: value for name, value in SETTINGS.items() if not name.endswith("BACKEND")}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores shared by everybody, Python {platform.python_version()}",
        "PostgreSQL": f"{stage.ask('postgres', 'SHOW server_version')[0]}, durable (fsync on), default settings",
        "load generator": generator(),
        "rounds": f"{options.runs} of {options.seconds:g} s, backlog {options.backlog:,}, past {options.past:,}",
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items())
        + "; ENVIRONMENT=development (no TLS proxy), mail and SMS off; a gateway in process that answers at once",
    }


def commit() -> str:
    """Which code this is, as far as Git knows it; with a mark where files were changed since."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def say(line: str) -> None:
    """What is going on, and since how many seconds, to who waits."""
    print(f"bench: {time.monotonic() - BEGAN:4.0f} s  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
