"""The roles of `deploy/postgres/roles.sql` in the database of a test, and what the file says of them."""

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from django.db import connection

from deploy.local.postgres import find_programs

FILE = Path(__file__).resolve().parents[1] / "deploy" / "postgres" / "roles.sql"
ROLES = ("web", "worker", "notifier", "relay", "intake", "cron", "readonly")
#: Roles are the whole server's, which other processes may test with at the same time.
PREFIX = f"roles_in_tests_{os.getpid()}"
LETTERS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
LINE = re.compile(r"^  \('(\w+)',\s+'([^']*)',\s+((?:'[^']*'\s*)+)\)", re.MULTILINE)


class Line(NamedTuple):
    """One line of the file: a table, role -> letters, and the columns that they are about; none: whole rows."""

    table: str
    who: dict[str, str]
    columns: tuple[str, ...]


def lines() -> list[Line]:
    """Return the table of the file."""
    return [
        Line(
            table, dict(one.split("=") for one in who.split()), tuple("".join(re.findall("'([^']*)'", listed)).split())
        )
        for table, who, listed in LINE.findall(FILE.read_text())
    ]


def access() -> dict[str, dict[str, str]]:
    """Return table -> role -> its letters, whether for whole rows or for columns."""
    found: dict[str, dict[str, set[str]]] = {line.table: defaultdict(set) for line in lines()}
    for line in lines():
        for role, letters in line.who.items():
            found[line.table][role] |= set(letters)
    return {
        table: {role: "".join(letter for letter in LETTERS if letter in letters) for role, letters in who.items()}
        for table, who in found.items()
    }


def updatable() -> dict[tuple[str, str], set[str]]:
    """Return (table, role) -> the columns that the role may change."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines():
        for role, letters in line.who.items():
            if "U" in letters:
                found[line.table, role] |= set(line.columns)
    return found


def run_file(**passwords: str) -> None:
    """Run the file, as its documentation says."""
    psql(f"--set=prefix={PREFIX}", f"--file={FILE}", **passwords)


def drop_roles() -> None:
    """Leave the server as it was."""
    names = ", ".join(f"{PREFIX}_{role}" for role in ROLES)
    psql(f"--command=DROP OWNED BY {names}", f"--command=DROP ROLE {names}")


def psql(*options: str, **variables: str) -> None:
    """Run psql against the test's database."""
    done = try_psql(*options, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr


def try_psql(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run psql against the test's database, and return what became of it."""
    given = connection.settings_dict
    argv = [str(find_programs() / "psql"), "--no-psqlrc", f"--host={given['HOST']}", f"--port={given['PORT']}"]
    argv += [f"--username={given['USER']}", f"--dbname={given['NAME']}", *options]
    env = {**os.environ, "PGPASSWORD": given["PASSWORD"], **variables}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    """What the database lets this role do, and nothing else."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {PREFIX}_{role}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def table() -> str:
    """The first table of docs/database-roles.md: who may do what."""
    head = ["| Table | " + " | ".join(ROLES) + " |", "|---" * (len(ROLES) + 1) + "|"]
    rows = [f"| `{name}` | " + " | ".join(who.get(role, "") for role in ROLES) + " |" for name, who in access().items()]
    return "\n".join([*head, *rows])


def columns_table() -> str:
    """The second table of docs/database-roles.md: which columns each role may change."""
    rows = [
        f"| `{name}` | {role} | {' '.join(f'`{column}`' for column in sorted(columns))} |"
        for (name, role), columns in sorted(updatable().items())
    ]
    return "\n".join(["| Table | Role | Columns |", "|---|---|---|", *rows])
