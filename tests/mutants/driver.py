"""Try mutants: a process with all tests collected for each job, and a time limit for each test."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import psycopg

from tests.mutants.coverage_map import CoverageMap
from tests.mutants.operators import Mutant, apply

ROOT = Path(__file__).resolve().parents[2]
#: A test that takes so many times as long as when it was recorded, and these seconds, runs into an endless wait.
LIMIT_FACTOR = 8
LIMIT_SECONDS = 10.0
#: Seconds until a process has collected its tests on a busy machine.
START_SECONDS = 300.0
#: Seconds of tests (as recorded) that one mutant is given; the result says how many were run.
BUDGET_SECONDS = 90.0


@dataclass(frozen=True)
class Result:
    """What became of a mutant: `killed`, `timeout`, `survived`, `error` where the process that runs the tests died, or
    `uncovered` where no recorded test executes it.
    """

    mutant: Mutant
    status: str
    test: str = ""
    message: str = ""
    seconds: float = 0.0
    tests_run: int = 0
    tests: int = 0


class _Died(Exception):
    """The process that runs the tests is gone."""


class _Worker:
    """A pytest process and the two pipes to it."""

    def __init__(self, database: str, tests: Iterable[str], *, changed: dict[str, str] | None = None) -> None:
        requests, self._write = os.pipe()
        self._read, reports = os.pipe()
        env = {
            **os.environ,
            "DATABASE_URL": f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database}",
            "MUTANTS_REQUESTS": str(requests),
            "MUTANTS_REPORTS": str(reports),
            "MUTANTS_CHANGED": json.dumps(changed),
        }
        argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.mutants.worker", "-p", "no:randomly"]
        argv += ["-p", "no:cacheprovider", "-p", "no:xdist", "--reuse-db", *tests]
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=env,
            pass_fds=(requests, reports),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for descriptor in (requests, reports):
            os.close(descriptor)
        self._buffer = b""

    def send(self, **values: Any) -> None:
        os.write(self._write, (json.dumps(values) + "\n").encode())

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next report. Raises TimeoutError, or _Died."""
        ends = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, min(1.0, ends - time.monotonic())))[0]:
                if time.monotonic() > ends:
                    raise TimeoutError
                continue
            came = os.read(self._read, 65536)
            if not came:
                raise _Died
            self._buffer += came
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def close(self) -> None:
        for descriptor in (self._write, self._read):
            with suppress(OSError):
                os.close(descriptor)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Job:
    """One mutant at a time, in a database of its own."""

    number: int
    coverage: CoverageMap
    test_files: list[str]
    killers: dict[tuple[str, str], list[str]]
    #: Tests that have been seen to pass, or to fail, in such a process when nothing is changed.
    trusted: set[str]
    distrusted: set[str]
    budget: float = BUDGET_SECONDS
    worker: _Worker | None = None
    tidy: bool = False
    #: How many times the usual limit a test is given.
    patience: int = 1

    @property
    def database(self) -> str:
        return f"mutants_{os.getpid()}_{self.number}"

    def start(self) -> None:
        self.worker = _Worker(self.database, self.test_files)
        while "ready" not in self.worker.receive(START_SECONDS):
            pass

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None
        url = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "test_{self.database}" WITH (FORCE)')

    def try_mutant(self, mutant: Mutant) -> Result:
        """Run the tests that execute it, those first that killed others of its function or file."""
        began = time.monotonic()
        all_tests = self.coverage.tests_for(mutant)
        if not all_tests:
            return Result(mutant, "uncovered")
        while True:
            tests = self._within_budget(
                self._order(mutant, [each for each in all_tests if each not in self.distrusted])
            )
            self.patience = 1
            status, test, message, count = self._run(mutant, tests)
            if status == "error":  # once: another process of this machine may have ended it
                status, test, message, count = self._run(mutant, tests)
            if status == "timeout":  # of the mutant, or of a busy machine
                self.patience = 4
                status, test, message, count = self._run(mutant, tests)
            if status != "killed" or not test or self._passes_without(mutant, test):
                break
        if status == "killed" and test:
            self.killers[mutant.file, mutant.function].insert(0, test)
            self.killers[mutant.file, ""].insert(0, test)
        seconds = round(time.monotonic() - began, 2)
        return Result(mutant, status, test, message, seconds, count, len(all_tests))

    def _run(self, mutant: Mutant, tests: list[str], *, changed: bool = True) -> tuple[str, str, str, int]:
        source = (ROOT / mutant.file).read_text()
        text = apply(mutant, source) if changed else source
        outcome = None
        if not mutant.function or not self.coverage.is_imported(mutant):
            outcome = self._try_forked(mutant, text, tests)
        return outcome or self._try_imported(mutant, text, tests)

    def _passes_without(self, mutant: Mutant, test: str) -> bool:
        """Whether a test that has killed a mutant passes in the same way of running it, when nothing is changed."""
        if test not in self.trusted:
            passes = self._run(mutant, [test], changed=False)[0] == "survived"
            (self.trusted if passes else self.distrusted).add(test)
        return test in self.trusted

    def _order(self, mutant: Mutant, tests: list[str]) -> list[str]:
        known = set(tests)
        first = dict.fromkeys(self.killers[mutant.file, mutant.function][:20] + self.killers[mutant.file, ""][:20])
        killers = [test for test in first if test in known]
        # Of tests with parameters one each, and then the others.
        names: set[str] = set()
        ones, others = [], []
        for test in tests:
            name = test.partition("[")[0]
            (others if name in names else ones).append(test)
            names.add(name)
        return list(dict.fromkeys(killers + ones + others))

    def _within_budget(self, tests: list[str]) -> list[str]:
        taken, kept = 0.0, []
        for test in tests:
            taken += self.coverage.seconds[test]
            if kept and taken > self.budget:
                break
            kept.append(test)
        return kept

    def _try_forked(self, mutant: Mutant, text: str, tests: list[str]) -> tuple[str, str, str, int] | None:
        """In a fork of the warm process; None where its code cannot be replaced in place."""
        if self.worker is None:
            self.start()
        assert self.worker is not None
        tidy, self.tidy = self.tidy, False
        try:
            constant = not mutant.function
            self.worker.send(path=str(ROOT / mutant.file), text=text, tests=tests, tidy=tidy, constant=constant)
            outcome = self._watch(self.worker, forked=True)
        except (_Died, BrokenPipeError):
            self.worker.close()
            self.worker = None
            self.tidy = True
            return "error", "", "the process of the tests died", 0
        self.tidy = outcome is None or outcome[0] != "survived"
        return outcome

    def _watch(self, worker: _Worker, *, forked: bool) -> tuple[str, str, str, int] | None:
        """Follow the reports to the end of the tests."""
        child, test, count, failure = 0, "", 0, None
        limit = START_SECONDS
        while True:
            try:
                report = worker.receive(limit)
            except TimeoutError:
                self._stop(worker, child if forked else worker.process.pid, forked=forked)
                return "timeout", test, f"took more than {limit:.0f} s", count
            if "ended" in report:
                return self._judge(failure, report["ended"], test, count)
            if "test" in report:
                test, count = report["test"], count + 1
                limit = self.patience * (LIMIT_SECONDS + LIMIT_FACTOR * self.coverage.seconds.get(test, 1.0))
            child = report.get("child", child)
            failure = failure or self._failure_in(report, count)
            if failure and not forked:
                return failure

    def _failure_in(self, report: dict[str, Any], count: int) -> tuple[str, str, str, int] | None:
        if "failed" in report:
            return "killed", report["failed"], report["message"], count
        return ("impossible", "", "", 0) if "impossible" in report else None

    def _stop(self, worker: _Worker, group: int, *, forked: bool) -> None:
        """Kill a process that runs tests, and what these have started."""
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        while forked and "ended" not in worker.receive(START_SECONDS):
            pass

    def _judge(
        self, failure: tuple[str, str, str, int] | None, status: int, test: str, count: int
    ) -> tuple[str, str, str, int] | None:
        if failure is not None:
            return None if failure[0] == "impossible" else failure
        if status == 0:
            return "survived", "", "", count
        return "killed", test, f"the process ended with {status}", count

    def _try_imported(self, mutant: Mutant, text: str, tests: list[str]) -> tuple[str, str, str, int]:
        """In new processes that import the changed source: a few tests first, then the others."""
        if self.worker is None:
            self.start()  # it makes the database
        few, others = split(tests)
        count = 0
        for part in filter(None, (few, others)):
            outcome = self._import_and_run(mutant, text, part)
            count += outcome[3]
            if outcome[0] != "survived":
                return (*outcome[:3], count)
        return "survived", "", "", count

    def _import_and_run(self, mutant: Mutant, text: str, tests: list[str]) -> tuple[str, str, str, int]:
        with tempfile.NamedTemporaryFile("w", suffix=".py") as changed:
            changed.write(text)
            changed.flush()
            module = mutant.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            what = {"module": module, "path": str(ROOT / mutant.file), "text": changed.name}
            worker = _Worker(self.database, tests, changed=what)
            try:
                outcome = self._watch(worker, forked=False)
            except _Died:
                outcome = None
            finally:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(START_SECONDS if outcome is None else 1)
                status = worker.process.returncode
                worker.close()
        if outcome is not None:
            self.tidy = True
            return outcome
        return "survived" if status == 0 else "killed", "", f"pytest ended with {status}", len(tests)


def split(tests: list[str]) -> tuple[list[str], list[str]]:
    """The tests of the first few files, and the others: collecting a file takes longer than most tests."""
    files: dict[str, None] = {}
    few, others = [], []
    for test in tests:
        file = test.partition("::")[0]
        if len(files) < 3:
            files[file] = None
        (few if file in files and len(few) < 40 else others).append(test)
    return few, others


@contextmanager
def jobs_for(count: int, coverage: CoverageMap, *, budget: float = BUDGET_SECONDS) -> Iterator[list[Job]]:
    killers: dict[tuple[str, str], list[str]] = defaultdict(list)
    trusted: set[str] = set()
    distrusted: set[str] = set()
    jobs = [
        Job(number, coverage, coverage.test_files(), killers, trusted, distrusted, budget) for number in range(count)
    ]
    try:
        yield jobs
    finally:
        for job in jobs:
            job.close()


def try_all(jobs: list[Job], mutants: list[Mutant], *, ends: float, tell: Callable[[Result], None]) -> None:
    """Try mutants until none is left or the time is over; results come in any order."""
    todo: SimpleQueue[Mutant] = SimpleQueue()
    for mutant in mutants:
        todo.put(mutant)
    lock = Lock()

    def work(job: Job) -> None:
        while time.monotonic() < ends:
            try:
                mutant = todo.get_nowait()
            except Empty:
                return
            result = job.try_mutant(mutant)
            with lock:
                tell(result)

    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(work, job) for job in jobs]:
            done.result()
