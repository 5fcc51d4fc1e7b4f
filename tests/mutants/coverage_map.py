"""Which tests execute which lines, as `tests/mutants/recording.py` wrote it, and in which order a mutant is tested."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

from tests.mutants.operators import Mutant, functions_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("payments", "messaging")
#: What is not recorded: end-to-end and crash tests take seconds each, the others test no line of the two packages.
UNRECORDED = {
    "tests/integration/test_bench.py",
    "tests/integration/test_demo_history.py",
    "tests/integration/test_fuzz.py",
    "tests/unit/test_bench.py",
}


def source_files() -> list[str]:
    """The files of the mutated packages, as the recording sees them."""
    return sorted(str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def test_files() -> list[str]:
    found = [path for folder in ("unit", "integration") for path in (ROOT / "tests" / folder).glob("test_*.py")]
    return sorted({str(path.relative_to(ROOT)) for path in found} - UNRECORDED)


def digest(name: str) -> str:
    return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()[:16]


class CoverageMap:
    """A folder with one recording for each time that some test files were run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[int, set[str]]] = {}

    def record(self, *, jobs: int) -> None:
        """Run the test files that are new or have changed since they were recorded, and write what they execute."""
        known = self._recorded()
        wanted = [name for name in test_files() if known.get(name) != digest(name)]
        if not wanted:
            return
        number = len(list(self.folder.glob("*.index.json")))
        target = self.folder / f"{number:03d}"
        target.mkdir(parents=True, exist_ok=True)
        print(f"recording {len(wanted)} test files …", flush=True)
        env = {
            **os.environ,
            "MUTANTS_RECORDING": str(target),
            "MUTANTS_PACKAGES": ",".join(PACKAGES),
        }
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.recording", "-p", "no:randomly"]
        argv += ["-p", "no:cacheprovider", "-n", str(jobs), "--dist", "loadfile", *wanted]
        subprocess.run(argv, cwd=ROOT, env=env, check=False)
        self.write_index(target, wanted)

    def write_index(self, target: Path, tests: Iterable[str]) -> None:
        """Keep which state of which test files was recorded, and the text of the source files of that time."""
        for name in source_files():
            copy = target / "sources" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text((ROOT / name).read_text())
        index = {"tests": {name: digest(name) for name in tests}}
        target.with_suffix(".index.json").write_text(json.dumps(index))

    def _recorded(self) -> dict[str, str]:
        known: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.index.json")):
            known |= json.loads(path.read_text())["tests"]
        return known

    def load(self) -> None:
        """Read all recordings; of a test file that was recorded again, the newest."""
        newest = {
            name: path.name.split(".")[0]
            for path in sorted(self.folder.glob("*.index.json"))
            for name in json.loads(path.read_text())["tests"]
        }
        for path in sorted(self.folder.glob("*.index.json")):
            self._load_one(self.folder / path.name.split(".")[0], newest)

    def _load_one(self, folder: Path, newest: dict[str, str]) -> None:
        import coverage  # noqa: PLC0415  # nothing but a whole run needs it

        for path in folder.glob("*.seconds.json"):
            taken = json.loads(path.read_text())
            self.seconds |= {test: each for test, each in taken.items() if newest.get(_file_of(test)) == folder.name}
        for recording in folder.glob("*.coverage"):
            data = coverage.CoverageData(str(recording))
            data.read()
            for path in data.measured_files():
                name = str(Path(path).relative_to(ROOT))
                if not (ROOT / name).exists():
                    continue
                moved = _moved_lines((folder / "sources" / name).read_text(), (ROOT / name).read_text())
                lines = self.lines.setdefault(name, {})
                for line, tests in data.contexts_by_lineno(path).items():
                    kept = {test for test in tests if not test or newest.get(_file_of(test)) == folder.name}
                    lines.setdefault(moved.get(line, line), set()).update(kept)

    def test_files(self) -> list[str]:
        """Files with tests that were recorded and passed."""
        return sorted({_file_of(test) for test in self.seconds})

    # --- which tests a mutant needs

    def is_imported(self, mutant: Mutant) -> bool:
        """Whether the code of the mutant runs while the packages are imported: its functions must be changed before."""
        return not mutant.function or "" in self.lines.get(mutant.file, {}).get(mutant.line, ())

    def tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that execute the mutant's line, or use what its module-level statement defines; fastest first."""
        found = self._at_line(mutant.file, mutant.function, mutant.line) if mutant.function else self._using(mutant)
        return sorted(found & self.seconds.keys(), key=self._rank)

    def _rank(self, test: str) -> tuple[float, str]:
        return self.seconds[test], test

    def _at_line(self, file: str, function: str, line: int) -> set[str]:
        """Tests at a line, or at the nearest line before it in the function: of a statement only some lines count."""
        first = min(start for name, start, end in _functions(file) if name == function and start <= line <= end)
        for each in range(line, first - 1, -1):
            if tests := self.lines.get(file, {}).get(each, set()) - {""}:
                return tests
        return set()

    def _in_file(self, file: str) -> set[str]:
        return {test for tests in self.lines.get(file, {}).values() for test in tests if test}

    def _using(self, mutant: Mutant) -> set[str]:
        """Tests of all functions that use a name which the statement defines, also by way of other such names."""
        names = _defined_at(mutant.file, mutant.line)
        if not names:
            return self._in_file(mutant.file)
        todo, done, found = list(names), set(names), set()
        while todo:
            name = todo.pop()
            for file in source_files():
                for user, lines in _uses(file).get(name, ()):
                    if lines is None and user not in done:
                        done.add(user)
                        todo.append(user)
                    for line in lines or ():
                        found |= self.lines.get(file, {}).get(line, set())
        return (found - {""}) or self._in_file(mutant.file)


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _moved_lines(old: str, new: str) -> dict[int, int]:
    """Where the lines of a text are in a newer one; for a line that has changed, where the change begins."""
    moved: dict[int, int] = {}
    for _, i1, i2, j1, j2 in SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False).get_opcodes():
        for line in range(i1, i2):
            moved[line + 1] = min(j1 + line - i1, max(j2 - 1, j1)) + 1
    return moved


@cache
def _functions(file: str) -> list[tuple[str, int, int]]:
    return list(functions_of((ROOT / file).read_text()))


def _names_of(node: ast.stmt) -> list[str]:
    """The names that a statement of a module or class defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [each.id for target in targets for each in ast.walk(target or ast.Pass()) if isinstance(each, ast.Name)]


def _defined_at(file: str, line: int) -> list[str]:
    """The names that the outermost statement at a line defines."""
    for node in ast.parse((ROOT / file).read_text()).body:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        if first <= line <= (node.end_lineno or line):
            return _names_of(node)
    return []


@cache
def _uses(file: str) -> dict[str, list[tuple[str, tuple[int, ...] | None]]]:
    """For each name: the top-level statements of a file that mention it, and the lines of their functions if any."""
    text = (ROOT / file).read_text()
    found: dict[str, list[tuple[str, tuple[int, ...] | None]]] = defaultdict(list)
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        part = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
        words = set(re.findall(r"\w+", part))
        runs = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for defined in _names_of(node) or [""]:
            lines = tuple(range(node.lineno, (node.end_lineno or node.lineno) + 1)) if runs else None
            for word in words:
                found[word].append((defined, lines))
    return found
