"""Many rows in one statement, whose text does not grow with them: PostgreSQL gets them as one JSON document.

It reads that faster than psycopg and Django write as many placeholders or arrays.
https://www.postgresql.org/docs/current/functions-json.html (`json_to_recordset`)
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson
from django.db import connection
from django.db.models import Model

INSERT: Final = "INSERT INTO {table} ({columns}) SELECT {columns} FROM {records}"


def insert(model: type[Model], rows: Sequence[Mapping[str, Any]], *, returning: Sequence[str] = ()) -> list[Any]:
    """Insert rows; each gives values for the same columns, by name. All other columns get their defaults of the
    database.

    Returns what it is asked for of each row, in no certain order.
    """
    if not rows:
        return []
    columns = ", ".join(rows[0])
    table = model._meta.db_table  # noqa: SLF001  # Django documents it
    statement = INSERT.format(table=table, columns=columns, records=records(types_of(model, rows[0])))
    if returning:
        statement += f" RETURNING {', '.join(returning)}"
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters(rows))
        return cursor.fetchall() if returning else []


def records(types: Mapping[str, str], *, name: str = "record", parameter: str = "") -> str:
    """What stands after FROM, for rows of those columns; it takes two `parameters`, or those that are `named`.

    PostgreSQL expects a hundred rows of any document. Were it not told of a limit, it would rather read a table of some
    ten thousand rows as a whole than look up one. It cannot see which limit behind a SELECT, and expects ten rows: so
    the plan is as good for any list, and is kept.
    """
    columns = ", ".join(f"{column} {type_}" for column, type_ in types.items())
    rows, number = (f"%({parameter})s", f"%({parameter}_number)s") if parameter else ("%s", "%s")
    return (
        f"(SELECT * FROM json_to_recordset({rows}::json) AS record ({columns}) LIMIT (SELECT {number}::int)) AS {name}"  # noqa: S608  # ours  # nosec B608
    )


def parameters(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows, and how many they are."""
    return [document(rows), len(rows)]


def named(parameter: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same, by name."""
    return {parameter: document(rows), f"{parameter}_number": len(rows)}


def types_of(model: type[Model], columns: Iterable[str]) -> dict[str, str]:
    """Columns of a table with their types; a foreign key's name ends in `_id`."""
    known = all_types_of(model)
    return {column: known[column] for column in columns}


@cache
def all_types_of(model: type[Model]) -> dict[str, str]:
    """The same for all columns."""
    fields = model._meta.concrete_fields  # noqa: SLF001  # Django documents it
    return {str(field.column): str(field.db_type(connection)) for field in fields}


def document(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as PostgreSQL takes them."""
    return orjson.dumps(rows, default=written).decode()


def written(value: object) -> str:
    """What orjson has no form for, as PostgreSQL reads it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a {type(value).__name__} cannot be written into a row")
