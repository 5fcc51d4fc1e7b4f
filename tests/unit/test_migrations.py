"""While a release is rolled out, processes of the release before write to tables that are migrated already."""

import pytest
from django.db.migrations import AddField, CreateModel
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
