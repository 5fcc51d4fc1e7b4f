"""What a test with transactions of its own has left behind goes before the next one, and nothing else.

Django empties every table, and then makes content types, permissions and roles anew: that takes longer than most tests
do. Here those stay as long as nobody has touched them, and of the others those are emptied that hold something.
"""

from typing import Any

from django.db import connection
from django.test import TransactionTestCase

#: What Django and `console.roles` write after a migration. None of them refers to a table that is not among them.
MADE_BY_MIGRATING = ("auth_group", "auth_group_permissions", "auth_permission", "django_content_type")

flush_all = TransactionTestCase._fixture_teardown
pristine: list[Any] = []


def remember() -> None:
    """What these tables hold when nothing has happened yet."""
    pristine[:] = [contents()]


def tidy_up(case: TransactionTestCase) -> None:
    """In place of Django's own way, which remains for a test that has changed what migrating makes."""
    if [contents()] != pristine:
        flush_all(case)
        remember()
    elif left := [name for name, holds in tables().items() if holds]:
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(left)} CASCADE")


def contents() -> list[tuple[Any, ...]]:
    """Every row of what migrating makes."""
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{name}', row::text FROM {name} AS row" for name in MADE_BY_MIGRATING)
        )
        return sorted(cursor.fetchall())


def tables() -> dict[str, bool]:
    """Each other table that Django would empty, and whether it holds anything."""
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{name}', EXISTS (SELECT FROM {name})" for name in names if name not in MADE_BY_MIGRATING
            )
        )
        return dict(cursor.fetchall())
