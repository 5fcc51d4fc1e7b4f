"""Indexes of tables that must take payments meanwhile, for migrations that are not atomic."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def add_index(index: models.Index, *, to: str) -> list[Operation]:
    """Add it; what is tried once more begins anew.

    An index whose making was ended stays, is written to and never read.
    """
    drop = migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}", migrations.RunSQL.noop)
    return patiently(drop, AddIndexConcurrently(model_name=to, index=index))


def remove_index(name: str, *, of: str) -> list[Operation]:
    """Remove it."""
    return patiently(RemoveIndexConcurrently(model_name=of, name=name))


def patiently(*operations: Operation) -> list[Operation]:
    """PostgreSQL waits for all transactions of before, for longer than `lock_timeout` allows anybody else."""
    wait, as_before = "SET lock_timeout = 0", "RESET lock_timeout"
    return [migrations.RunSQL(wait, as_before), *operations, migrations.RunSQL(as_before, wait)]
