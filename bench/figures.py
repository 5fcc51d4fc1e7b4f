"""What was measured: one figure for each subject and round, and what a run makes of them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement. `details` are what belongs to it, such as percentiles (ms) or shares of the CPU (cores);
    a `fault` says why it counts for nothing.
    """

    key: str
    value: float
    unit: str
    details: Mapping[str, float] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All rounds of one figure."""

    key: str
    unit: str
    median: float
    least: float
    most: float
    details: dict[str, float]
    faults: list[str]


@dataclass(slots=True)
class Results:
    """The figures of a run, in the order in which they were first measured."""

    figures: list[Figure] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, figures: Iterable[Figure]) -> None:
        """Take the figures of one measurement."""
        self.figures.extend(figures)

    def summaries(self) -> dict[str, Summary]:
        """Key -> its rounds."""
        keys = dict.fromkeys(figure.key for figure in self.figures)
        return {key: summarise([figure for figure in self.figures if figure.key == key]) for key in keys}

    def ratio(self, key: str, to: str) -> float | None:
        """One median over another; None where either is missing or counts for nothing."""
        found = self.summaries()
        over, under = found.get(key), found.get(to)
        if over is None or under is None or over.faults or under.faults or not under.median:
            return None
        return over.median / under.median

    def save(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {"about": self.about, "figures": [asdict(figure) for figure in self.figures]}
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(file: Path) -> Results:
    """What `save` has written."""
    document = json.loads(file.read_text(encoding="utf-8"))
    return Results([Figure(**figure) for figure in document["figures"]], document["about"])


def summarise(rounds: list[Figure]) -> Summary:
    """The median of each number over the rounds, and the spread of the first."""
    values = [figure.value for figure in rounds]
    names = dict.fromkeys(name for figure in rounds for name in figure.details)
    return Summary(
        key=rounds[0].key,
        unit=rounds[0].unit,
        median=median(values),
        least=min(values),
        most=max(values),
        details={name: median(it.details[name] for it in rounds if name in it.details) for name in names},
        faults=[figure.fault for figure in rounds if figure.fault],
    )
