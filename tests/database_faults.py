"""Errors of PostgreSQL, raised in place of statements: every SQLSTATE that psycopg knows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection
from psycopg import errors

#: Every SQLSTATE that psycopg has a class for.
SQLSTATES: list[str] = sorted(
    kind.sqlstate
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, psycopg.Error) and kind.sqlstate
)


class Fault:
    """Raises an error in place of each statement that contains a text, as PostgreSQL would; `times` at most."""

    def __init__(self, sqlstate: str, *, instead_of: str, times: int | None) -> None:
        self.sqlstate = sqlstate
        self.text = instead_of
        self.left = times
        self.raised = 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.text in sql and self.left != 0:
            self.left = None if self.left is None else self.left - 1
            self.raised += 1
            with connection.wrap_database_errors:
                raise errors.lookup(self.sqlstate)(f"made up: {self.sqlstate}")
        return execute(sql, params, many, context)


@contextmanager
def fault(sqlstate: str, *, instead_of: str, times: int | None = None) -> Iterator[Fault]:
    """Raise it in place of those of this thread's statements; without `times`, of all of them."""
    made = Fault(sqlstate, instead_of=instead_of, times=times)
    with connection.execute_wrapper(made):
        yield made


@contextmanager
def read_only_database() -> Iterator[None]:
    """Have all sessions of the database only read, new ones too: what fails over one is tried again over a new one."""
    connection.close()  # what it inherits is set when it begins
    setting = f"ALTER DATABASE {connection.ops.quote_name(connection.settings_dict['NAME'])}"
    with connection.cursor() as cursor:
        cursor.execute(f"{setting} SET default_transaction_read_only = on")
    connection.close()
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"{setting} RESET default_transaction_read_only")
        connection.close()
