"""The roles of `deploy/postgres/roles.sql` in the database of a test, and what the file says of them."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from deploy.local.postgres import find_programs

FILE = Path(__file__).resolve().parents[1] / "deploy" / "postgres" / "roles.sql"
ROLES = ("web", "worker", "notifier", "relay", "intake", "cron", "readonly")
#: Roles are the whole server's, which others may use as well.
PREFIX = "roles_in_tests"
LETTERS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}


def access() -> dict[str, dict[str, str]]:
    """Table -> role -> its letters, as the file has them."""
    lines = re.findall(r"^  \('(\w+)', +'([^']*)'\)", FILE.read_text(), re.MULTILINE)
    return {table: dict(one.split("=") for one in who.split()) for table, who in lines}


def run_file(**passwords: str) -> None:
    """Run the file, as its documentation says."""
    psql(f"--set=prefix={PREFIX}", f"--file={FILE}", **passwords)


def drop_roles() -> None:
    """Leave the server as it was."""
    names = ", ".join(f"{PREFIX}_{role}" for role in ROLES)
    psql(f"--command=DROP OWNED BY {names}", f"--command=DROP ROLE {names}")


def psql(*options: str, **variables: str) -> None:
    """Run psql against the test's database."""
    given = connection.settings_dict
    argv = [str(find_programs() / "psql"), "--no-psqlrc", f"--host={given['HOST']}", f"--port={given['PORT']}"]
    argv += [f"--username={given['USER']}", f"--dbname={given['NAME']}", *options]
    env = {**os.environ, "PGPASSWORD": given["PASSWORD"], **variables}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr


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
    """The table of docs/database-roles.md."""
    head = ["| Table | " + " | ".join(ROLES) + " |", "|---" * (len(ROLES) + 1) + "|"]
    rows = [f"| `{name}` | " + " | ".join(who.get(role, "") for role in ROLES) + " |" for name, who in access().items()]
    return "\n".join([*head, *rows])
