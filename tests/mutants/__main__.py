"""`python -m tests.mutants [FILE…]`: change the source in small steps, and see whether a test fails for each.

It needs DATABASE_URL and RABBITMQ_URL, as pytest does; `make mutants` starts both. The exit status is 1 where a mutant
survives that `tests/mutants/survivors.toml` does not explain.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from tests.mutants.coverage_map import CoverageMap, source_files
from tests.mutants.driver import BUDGET_SECONDS, Result, jobs_for, try_all
from tests.mutants.exclusions import is_excluded_file
from tests.mutants.operators import Mutant, make_mutants
from tests.mutants.report import ALIVE, Results, Survivors, describe, table

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    mutants = choose(options.files, sample=options.sample, seed=options.seed)
    coverage, results, survivors = CoverageMap(folder / "coverage"), Results(folder / "results.jsonl"), Survivors()
    todo = [mutant for mutant in mutants if options.fresh or not results.is_killed(mutant)]
    if options.survivors:
        todo = [mutant for mutant in todo if mutant.key in results.known]
    if not options.explained_too:
        todo = [mutant for mutant in todo if not survivors.reason(mutant)]
    random.Random(options.seed).shuffle(todo)  # a run that is stopped has tried a sample of all
    if todo and not options.table:
        if not options.no_recording:
            coverage.record(jobs=options.jobs)
        coverage.load()
        ends = time.monotonic() + 60 * options.minutes
        count = 0

        def tell(result: Result) -> None:
            nonlocal count
            count += 1
            results.add(result)
            if result.status != "killed":
                at = f"{result.mutant.file}:{result.mutant.line}"
                print(f"[{count}/{len(todo)}] {result.status}: {at}: {result.mutant.after}", flush=True)

        with jobs_for(min(options.jobs, len(todo)), coverage, budget=options.budget) as jobs:
            try_all(jobs, todo, ends=ends, tell=tell)
    return conclude(mutants, results, survivors, seed=options.seed if options.sample else None)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="files or patterns, such as payments/operations/*.py; default: all")
    parser.add_argument("--sample", type=int, default=0, help="only so many mutants, chosen at random by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="stop after this time; run again to go on")
    parser.add_argument(
        "--budget", type=float, default=BUDGET_SECONDS, help="seconds of tests, as recorded, that one mutant is given"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=ROOT / ".mutants", help="where coverage and results are kept")
    parser.add_argument("--no-recording", action="store_true", help="use the recorded coverage, also where it is old")
    parser.add_argument("--fresh", action="store_true", help="also try mutants that were killed before")
    parser.add_argument("--survivors", action="store_true", help="only mutants that survived an earlier run")
    parser.add_argument("--explained-too", action="store_true", help="also try survivors that are explained")
    parser.add_argument("--table", action="store_true", help="only print what is known")
    return parser.parse_args(arguments)


def choose(patterns: list[str], *, sample: int, seed: int) -> list[Mutant]:
    """All mutants of the files, or a sample of them."""
    names = [name for name in source_files() if not is_excluded_file(name)]
    if patterns:
        names = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    mutants = [mutant for name in names for mutant in make_mutants(name, (ROOT / name).read_text())]
    if sample and sample < len(mutants):
        chosen = random.Random(seed).sample(mutants, sample)
        mutants = sorted(chosen, key=lambda mutant: (mutant.file, mutant.start))
    return mutants


def conclude(mutants: Iterable[Mutant], results: Results, survivors: Survivors, *, seed: int | None) -> int:
    """Print the unexplained survivors and the table; the exit status."""
    tried = [mutant for mutant in mutants if mutant.key in results.known]
    unexplained = 0
    for mutant in tried:
        status = results.known[mutant.key]["status"]
        if status in ALIVE and not survivors.reason(mutant):
            unexplained += 1
            print(describe(mutant, status), end="\n\n")
    print("\n".join(table(tried, results, survivors)))
    if seed is not None:
        print(f"a random sample, by seed {seed}")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
