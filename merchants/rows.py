"""Rows read into models by a statement that is written once: the ORM would build it anew for each request."""

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model

M = TypeVar("M", bound=Model)


def columns(model: type[Model], table: str) -> str:
    """All columns of a model, for a SELECT in which its table has this name."""
    return ", ".join(f"{table}.{field.column}" for field in model._meta.concrete_fields)  # noqa: SLF001  # documented


def read(model: type[M], values: Iterator[Any]) -> M:
    """The next object in a row, as the ORM would make it; takes the values of its `columns`."""
    fields = model._meta.concrete_fields  # noqa: SLF001  # documented
    found = [convert(field, next(values)) for field in fields]
    return model.from_db(DEFAULT_DB_ALIAS, [field.attname for field in fields], found)


def convert(field: Any, value: Any) -> Any:
    """What a field makes of what the database says."""
    return field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value


def select(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
