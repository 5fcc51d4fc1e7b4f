"""`python -m deploy.checks code|artefacts|schema`: what can be checked without running the system.

One line per check, and the output of those that failed. No check needs a server: the settings get variables like
those of production, with secrets made on the fly and a database that is not there.
"""

import argparse
import difflib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from deploy.pins import pin_faults
from deploy.vulnerabilities import NoData, complaint_of

ROOT: Final = Path(__file__).resolve().parents[1]
#: The virtual environment's programs. Not resolved: its python is a link to the system's, whose folder has none.
TOOLS: Final = Path(sys.executable).parent
OPENAPI: Final = ROOT / "openapi.yaml"
#: No check takes this long (s); one that does hangs, and a CI run shall say which.
TIMEOUT: Final = 300.0
#: Lines of a difference that are shown; who needs more runs `make schema` and `git diff`.
DIFF_LINES: Final = 40
ENVIRONMENT: Final = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "ENVIRONMENT": "production",
    "SECRET_KEY": secrets.token_urlsafe(48),
    "JWT_SIGNING_KEY": secrets.token_urlsafe(48),
    "ENCRYPTION_KEYS": secrets.token_urlsafe(48),
    "ALLOWED_HOSTS": "payments.example",
    "DATABASE_URL": "postgres://check@127.0.0.1:1/check",
    "RABBITMQ_URL": "amqp://localhost",
}


class CheckFailed(Exception):
    """What is wrong, in the words of the tool that found it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `run` raises CheckFailed, or NoData where it cannot be told."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Result:
    """How a check went; `complaint` is None when all is well, or when it could not be told: then `skipped` says why."""

    name: str
    seconds: float
    complaint: str | None
    skipped: str = ""


def main() -> int:
    """The exit status: 1 if any check failed."""
    parser = argparse.ArgumentParser(prog="python -m deploy.checks", description="Check without running the system.")
    parser.add_argument("group", choices=["code", "artefacts", "schema"])
    group: str = parser.parse_args().group
    checks = {"code": code, "artefacts": artefacts, "schema": schema}[group]()
    return 0 if report(checks) else 1


def code() -> list[Check]:
    """The Python code, slowest first, so that the others fit in beside it."""
    return [
        tool("mypy", "mypy"),
        Check("openapi.yaml", compare_schema),
        manage("migrations", "makemigrations", "--check", "--dry-run"),
        manage("django check --deploy", "check", "--deploy", "--fail-level", "WARNING"),
        tool("import contracts", "lint-imports"),
        tool("ruff check", "ruff", "check", "."),
        tool("ruff format", "ruff", "format", "--check", "."),
        tool("bandit", "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", "."),
        Check("pip-audit", audit_packages),
    ]


def artefacts() -> list[Check]:
    """The files that other machines read. Validated offline: nothing is built or executed."""
    workflows = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github/workflows").glob("*.yml"))
    return [
        tool("compose file", "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
        tool("workflows", "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows),
        tool("Dockerfile", "hadolint", "Dockerfile"),
        tool("shell scripts", "shellcheck", *shell_scripts()),
        Check("hashes and digests", check_pins),
    ]


def schema() -> list[Check]:
    """Not a check, but told like one: write openapi.yaml anew."""
    return [Check("write openapi.yaml", lambda: OPENAPI.write_text(generate_schema(), encoding="utf-8"))]


def report(checks: list[Check]) -> bool:
    """Run the checks side by side and print each result as it comes; True if all went well."""
    width = max(len(check.name) for check in checks)
    failed = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for future in as_completed([pool.submit(measure, check) for check in checks]):
            result = future.result()
            print(f"{result.name:<{width}}  {verdict(result):<6}  {result.seconds:5.1f} s", flush=True)
            if result.complaint is not None:
                failed.append(result.name)
                print(f"\n{result.complaint.strip()}\n", flush=True)
    if failed:
        print(f"{len(failed)} of {len(checks)} failed: {', '.join(failed)}", flush=True)
    return not failed


def verdict(result: Result) -> str:
    """One word, or why there is none."""
    if result.skipped:
        return f"skipped: {result.skipped}"
    return "ok" if result.complaint is None else "FAILED"


def measure(check: Check) -> Result:
    """Run one check and time it."""
    started = time.monotonic()
    complaint, skipped = None, ""
    try:
        check.run()
    except CheckFailed as failure:
        complaint = str(failure)
    except NoData as nothing:
        skipped = str(nothing)
    return Result(check.name, time.monotonic() - started, complaint, skipped)


def tool(name: str, program: str, *arguments: str) -> Check:
    """A check that runs a program of the virtual environment."""
    return Check(name, lambda: execute(str(TOOLS / program), *arguments))


def manage(name: str, *arguments: str) -> Check:
    """A check that runs a management command."""
    return Check(name, lambda: execute(sys.executable, "manage.py", *arguments))


def check_pins() -> None:
    """Raise CheckFailed when a package has no hash or an image no digest."""
    if faults := pin_faults():
        raise CheckFailed("\n".join(faults))


def audit_packages() -> None:
    """Ask what is known against the packages of production. An index that is away says so, and fails nothing."""
    options = ["--format", "json", "--requirement", "requirements.txt", "--no-deps", "--disable-pip"]
    # The index is asked once for each package; no answer from it takes longer than this (s).
    done = run(str(TOOLS / "pip-audit"), *options, "--timeout", "10", "--progress-spinner", "off", apart=True)
    if complaint := complaint_of(done.stdout, done.stderr):
        raise CheckFailed(complaint)


def execute(*argv: str) -> None:
    """Run a command quietly.

    Raises:
        CheckFailed: it is not installed, hangs, or its exit status is not 0.
    """
    done = run(*argv)
    if done.returncode:
        raise CheckFailed(done.stdout.strip() or f"{' '.join(argv)} ended with exit status {done.returncode}.")


def run(*argv: str, apart: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command, and keep what it says; `apart`: its complaints by themselves. Raises CheckFailed."""
    try:
        return subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if apart else subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise CheckFailed(f"{argv[0]} is missing: run `make install`.") from None
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"{' '.join(argv)} took more than {TIMEOUT:.0f} s and was stopped.") from None


def generate_schema() -> str:
    """The OpenAPI document of the code as it is; raises CheckFailed for any warning."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.yaml"
        options = ["--validate", "--fail-on-warn", "--file", str(file)]
        execute(sys.executable, "manage.py", "spectacular", *options)
        return file.read_text(encoding="utf-8")


def compare_schema() -> None:
    """Raise CheckFailed when the committed openapi.yaml is not what the code says."""
    generated = generate_schema()
    committed = OPENAPI.read_text(encoding="utf-8") if OPENAPI.exists() else ""
    if committed == generated:
        return
    difference = difflib.unified_diff(committed.splitlines(), generated.splitlines(), "committed", "code", lineterm="")
    lines = islice(difference, DIFF_LINES)
    raise CheckFailed("\n".join(["openapi.yaml is not what the code says: run `make schema`.", *lines]))


def shell_scripts() -> list[str]:
    """`.ci/run` and every `*.sh`; folders whose names begin with a dot, such as .venv, are left out."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = [*ROOT.glob("*.sh"), *(script for folder in folders for script in folder.rglob("*.sh"))]
    return [".ci/run", *sorted(str(path.relative_to(ROOT)) for path in found)]


if __name__ == "__main__":
    sys.exit(main())
