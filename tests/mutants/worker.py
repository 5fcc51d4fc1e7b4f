"""A pytest plugin that runs tests against mutants; `tests/mutants/driver.py` starts it with `-p tests.mutants.worker`.

With MUTANTS_CHANGED it replaces the source of one module before anything imports it, and runs the session as usual:
for what the import executes. Without, it collects all tests once, and then forks a process for each mutant, in which
the code of the live function objects is replaced.
"""

import gc
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import constants

ROOT = Path(__file__).resolve().parents[2]
#: What the driver sends, and what it reads: a line of JSON each.
REQUESTS = os.fdopen(int(os.environ["MUTANTS_REQUESTS"]), "r", closefd=False)
REPORTS = int(os.environ["MUTANTS_REPORTS"])
#: A module to import from changed source: its path, and the file with the text.
CHANGED = json.loads(os.environ.get("MUTANTS_CHANGED", "null"))


def report(**values: Any) -> None:
    os.write(REPORTS, (json.dumps(values) + "\n").encode())


# --- a module with changed source


class _ChangedLoader(importlib.machinery.SourceFileLoader):
    """Compiles the changed text, and never from the cache of compiled files."""

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(Path(CHANGED["text"]).read_text(), self.path, "exec", dont_inherit=True)


class _ChangedFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == CHANGED["module"]:
            loader = _ChangedLoader(fullname, CHANGED["path"])
            return importlib.util.spec_from_file_location(fullname, CHANGED["path"], loader=loader)
        return None


def keep_database() -> None:
    """Use the database as an earlier run has left it, without looking for migrations again."""
    from django.db.backends.base.creation import BaseDatabaseCreation  # noqa: PLC0415  # the settings are needed first

    def use(self: Any, *_: Any, **__: Any) -> str:
        name: str = self._get_test_db_name()
        self.connection.close()
        self.connection.settings_dict["NAME"] = name
        return name

    BaseDatabaseCreation.create_test_db = use


if CHANGED:
    sys.meta_path.insert(0, _ChangedFinder())


# --- functions with changed code


def changed_codes(old: types.CodeType, new: types.CodeType) -> Iterator[tuple[types.CodeType, types.CodeType]]:
    """Pairs of code objects that differ, outermost first. Raises ValueError where the functions are not the same."""
    nested_old = [each for each in old.co_consts if isinstance(each, types.CodeType)]
    nested_new = [each for each in new.co_consts if isinstance(each, types.CodeType)]
    names = [each.co_qualname for each in nested_old], [each.co_qualname for each in nested_new]
    if old != new:
        yield old, new
    if names[0] == names[1]:
        for pair in zip(nested_old, nested_new, strict=True):
            yield from changed_codes(*pair)
    elif old.co_name == "<module>":
        raise ValueError("the module has other functions")


def live_functions() -> dict[tuple[str, str, int], list[types.FunctionType]]:
    """All function objects, by file, qualified name and first line of their code."""
    found: dict[tuple[str, str, int], list[types.FunctionType]] = {}
    for each in gc.get_objects():
        if type(each) is types.FunctionType:
            found.setdefault(place_of(each.__code__), []).append(each)
    return found


def place_of(code: types.CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def replace_functions(path: str, text: str, live: dict[tuple[str, str, int], list[types.FunctionType]]) -> None:
    """Give the live functions of a file the code of a changed text. Raises ValueError where that is not possible."""
    old = compile(Path(path).read_text(), path, "exec", dont_inherit=True)
    new = compile(text, path, "exec", dont_inherit=True)
    if old == new:
        return
    pairs = [(before, after) for before, after in changed_codes(old, new) if before.co_name != "<module>"]
    replaced = 0
    for before, after in pairs:
        for function in live.get(place_of(before), ()):
            function.__code__ = after
            replaced += 1
    if not replaced:
        raise ValueError("no live function has this code")


# --- the session


class Session:
    """All tests, collected once, and the processes forked from here."""

    def __init__(self, session: pytest.Session) -> None:
        self._items = {item.nodeid: item for item in session.items}
        self._live: dict[tuple[str, str, int], list[types.FunctionType]] = {}
        self._has_database = False
        # What no fixture of a module is shared with: its setup leaves only those of the session.
        self._elsewhere = next(item for item in session.items if "/unit/" in item.nodeid)

    def serve(self) -> None:
        """Set up the database, then run one request after the other, until the driver closes the pipe."""
        self._make_database()
        self._live = live_functions()
        gc.collect()
        gc.freeze()
        report(ready=len(self._items), threads=[each.name for each in threading.enumerate()])
        while line := REQUESTS.readline():
            request = json.loads(line)
            child = os.fork()
            if not child:
                self._be_mutant(request)
            report(child=child)
            _, status = os.waitpid(child, 0)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what its tests started and did not end
            report(ended=os.waitstatus_to_exitcode(status))

    def _make_database(self) -> None:
        """Run a test that uses the database: its fixture of the session makes it, and stays set up."""
        first = next((item for item in self._items.values() if _uses_database(item)), None)
        self._has_database = first is not None
        if first is not None:
            first.config.hook.pytest_runtest_protocol(item=first, nextitem=self._elsewhere)
            from django.db import connections  # noqa: PLC0415  # the settings are needed first

            connections.close_all()

    def _be_mutant(self, request: dict[str, Any]) -> None:
        """In the child: change the code, run the tests up to the first failure, and end."""
        os.setpgid(0, 0)
        watch.failed = False  # the test that made the database may have found what a stopped process left in it
        status = 70
        try:
            devnull = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(devnull, stream)
            if request["tidy"] and self._has_database:
                _tidy()
            if request["text"] is not None:
                if request["constant"]:
                    constants.replace_constant(request["path"], request["text"])
                else:
                    replace_functions(request["path"], request["text"], self._live)
            status = self._run([self._items[name] for name in request["tests"] if name in self._items])
        except ValueError as error:
            report(impossible=str(error))
        except BaseException as error:  # noqa: BLE001  # whatever it is, the driver has to know
            report(failed="", message=f"{type(error).__name__}: {error}"[:300])
        finally:
            os._exit(status)

    def _run(self, items: list[pytest.Item]) -> int:
        for number, item in enumerate(items):
            following = items[number + 1] if number + 1 < len(items) else self._elsewhere
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if watch.failed:
                return 1
        return 0


def _uses_database(item: pytest.Item) -> bool:
    # A plain one, without threads: a fork has only the thread that made it.
    return "merchant" in getattr(item, "fixturenames", ()) and "sandbox" not in getattr(item, "fixturenames", ())


def _tidy() -> None:
    """Empty the tables: the last process may have been killed before it could."""
    from django.db import connections  # noqa: PLC0415  # the settings are needed first

    from tests import tidying  # noqa: PLC0415

    with pytest.MonkeyPatch.context():
        from pytest_django.plugin import blocking_manager_key  # noqa: PLC0415

        blocker = watch.config.stash[blocking_manager_key]
        with blocker.unblock():
            tidying.tidy_up(None)
            connections.close_all()


class Watch:
    """Tells the driver which test begins and which one fails."""

    def __init__(self) -> None:
        self.failed = False
        self.config: Any = None


watch = Watch()


def pytest_configure(config: pytest.Config) -> None:
    watch.config = config
    if CHANGED:
        keep_database()


def pytest_runtest_logstart(nodeid: str) -> None:
    report(test=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and not watch.failed:
        watch.failed = True
        message = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).splitlines()
        _report_failure(report.nodeid, message[-1] if message else "")


def _report_failure(nodeid: str, message: str) -> None:
    report(failed=nodeid, message=message[:300])


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if CHANGED:
        return None
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Session(session).serve()
    return True


def pytest_sessionfinish() -> None:
    # The database stays: other processes of this run use it, and the driver drops it at the end.
    if not CHANGED:
        os._exit(0)
