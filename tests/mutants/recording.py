"""A pytest plugin that records which test executes which lines of the mutated packages, and how long each test takes.

Load it with `-p tests.mutants.recording`: it starts before Django imports the packages, so that the lines of imports
are recorded too, in the context "" of their own. `tests/mutants/coverage_map.py` reads what it writes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

#: Where each process of pytest writes its two files.
FOLDER = Path(os.environ["MUTANTS_RECORDING"])
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")

seconds: dict[str, float] = {}
failed: set[str] = set()
measured = coverage.Coverage(
    data_file=str(FOLDER / f"{WORKER}.coverage"),
    config_file=False,
    source_pkgs=os.environ["MUTANTS_PACKAGES"].split(","),
    check_preimported=False,
)
measured._warn_no_data = False
# The controller of pytest-xdist runs no test.
if WORKER != "main" or "MUTANTS_ONE_PROCESS" in os.environ:
    measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Everything from the setup to the teardown of a test is executed by that test."""
    measured.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        measured.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    if report.failed:
        failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    if not measured._started:
        return
    measured.stop()
    measured.save()
    passing = {nodeid: round(taken, 4) for nodeid, taken in seconds.items() if nodeid not in failed}
    (FOLDER / f"{WORKER}.seconds.json").write_text(json.dumps(passing))
