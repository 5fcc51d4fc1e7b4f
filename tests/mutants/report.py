"""What is kept of a run: a file of results, a table by file, and the survivors that are explained."""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutants.driver import Result
from tests.mutants.operators import Mutant

SURVIVORS = Path(__file__).parent / "survivors.toml"
STATUSES = ("killed", "timeout", "survived", "uncovered", "error", "explained")
ALIVE = ("survived", "uncovered", "error")


class Results:
    """One line of JSON for each mutant that was tried. Of a mutant that was tried again, the last line counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.known[entry["key"]] = entry

    def is_killed(self, mutant: Mutant) -> bool:
        return self.known.get(mutant.key, {}).get("status") in {"killed", "timeout"}

    def add(self, result: Result) -> None:
        values = asdict(result)
        entry = {"key": result.mutant.key, **values.pop("mutant"), **values}
        self.known[result.mutant.key] = entry
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


class Survivors:
    """`survivors.toml`: why no test can, or needs to, notice a mutant. Found by file, function and changed text."""

    def __init__(self, path: Path = SURVIVORS) -> None:
        entries = tomllib.loads(path.read_text()).get("survivor", []) if path.exists() else []
        self._reasons = {self._place(entry): entry["reason"] for entry in entries}

    @staticmethod
    def _place(entry: dict[str, Any]) -> tuple[str, str, str, str]:
        return entry["file"], entry.get("function", ""), entry["before"], entry["after"]

    def reason(self, mutant: Mutant) -> str:
        return self._reasons.get((mutant.file, mutant.function, mutant.before, mutant.after), "")


def table(mutants: Iterable[Mutant], results: Results, survivors: Survivors) -> list[str]:
    """One line for each file and one for all: how many mutants were tried, and what became of them."""
    counts: dict[str, Counter[str]] = {}
    for mutant in mutants:
        status = results.known.get(mutant.key, {}).get("status", "not run")
        if status in ALIVE and survivors.reason(mutant):
            status = "explained"
        for name in (mutant.file, "all"):
            counts.setdefault(name, Counter())[status] += 1
    lines = [
        _row(
            "file", "run", "killed", "timeout", "survived", "uncovered", "error", "explained", "% killed", "% w/o expl."
        )
    ]
    for name, count in sorted(counts.items(), key=lambda item: (item[0] == "all", item[0])):
        run = sum(count.values()) - count["not run"]
        dead = count["killed"] + count["timeout"]
        columns = [count[status] for status in STATUSES]
        lines.append(_row(name, run, *columns, _percent(dead, run), _percent(dead, run - count["explained"])))
    return lines


def _row(name: object, *values: object) -> str:
    return f"{name!s:<48}" + "".join(f"{value!s:>11}" for value in values)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def describe(mutant: Mutant, status: str) -> str:
    """A survivor as it is printed, ready for `survivors.toml`."""
    entry = {"file": mutant.file, "function": mutant.function, "before": mutant.before, "after": mutant.after}
    return "\n".join(
        [
            f"# {status}: line {mutant.line}, {mutant.operator}",
            "[[survivor]]",
            *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entry.items()),
            'reason = ""',
        ]
    )
