"""Many rows in one statement, whose text does not grow with them: PostgreSQL gets them as one JSON document.

It reads that faster than psycopg and Django write as many placeholders or arrays.
https://www.postgresql.org/docs/current/functions-json.html (`json_to_recordset`)
"""

from collections.abc import Iterable, Mapping, Sequence
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


def records(types: Mapping[str, str], *, name: str = "record") -> str:
    """What stands after FROM, for rows of those columns; it takes two `parameters`.

    PostgreSQL expects a hundred rows of any document. Were it not told how many there are, it would rather read a table
    of some ten thousand rows as a whole than look up one.
    """
    columns = ", ".join(f"{column} {type_}" for column, type_ in types.items())
    return f"(SELECT * FROM json_to_recordset(%s::json) AS record ({columns}) LIMIT %s) AS {name}"  # noqa: S608  # ours  # nosec B608


def parameters(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows, and how many they are."""
    return [document(rows), len(rows)]


def types_of(model: type[Model], columns: Iterable[str]) -> dict[str, str]:
    """Columns of a table with their types; a foreign key's name ends in `_id`."""
    known = {field.column: field for field in model._meta.concrete_fields}  # noqa: SLF001  # Django documents it
    return {column: str(known[column].db_type(connection)) for column in columns}


def document(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as PostgreSQL takes them."""
    return orjson.dumps(rows, default=written).decode()


def written(value: object) -> str:
    """What orjson has no form for, as PostgreSQL reads it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a {type(value).__name__} cannot be written into a row")
