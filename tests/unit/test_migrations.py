"""While a release is rolled out, processes of the release before write to tables that are migrated already."""

import pytest
from django.db.migrations import AddField, CreateModel, RunSQL, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

ROOMS = ("merchants", "messaging", "payments")


def added_columns():
    """Each column that a migration adds to a table that was there before: its name, and the field."""
    for (room, name), migration in sorted(MigrationLoader(None).disk_migrations.items()):
        if room not in ROOMS or migration.initial:
            continue
        new = {operation.name_lower for operation in migration.operations if isinstance(operation, CreateModel)}
        for operation in migration.operations:
            if isinstance(operation, AddField) and operation.model_name_lower not in new:
                yield pytest.param(operation.field, id=f"{room}.{name}.{operation.model_name}.{operation.name}")


@pytest.mark.parametrize("field", list(added_columns()))
def test_no_added_column_refuses_the_rows_of_processes_that_do_not_know_it(field):
    """One without a default would answer every payment with a 500 until the last old process is gone."""
    assert field.null or field.db_default is not NOT_PROVIDED


def dropped_indexes():
    """Each statement of ours that drops an index, with its migration."""
    for (room, name), migration in sorted(MigrationLoader(None).disk_migrations.items()):
        for operation in operations_of(migration) if room in ROOMS else ():
            if isinstance(operation, RunSQL) and "DROP INDEX" in operation.sql:
                yield pytest.param(migration, operation.sql, id=f"{room}.{name}")


def operations_of(migration):
    for operation in migration.operations:
        yield operation
        if isinstance(operation, SeparateDatabaseAndState):
            yield from operation.database_operations


@pytest.mark.parametrize(("migration", "statement"), list(dropped_indexes()))
def test_no_index_is_dropped_under_a_lock_that_claims_wait_for(migration, statement):
    """Held until the end of a transaction that takes several tables, it would be a deadlock with each of them."""
    assert not migration.atomic
    assert statement.startswith("DROP INDEX CONCURRENTLY IF EXISTS ")
