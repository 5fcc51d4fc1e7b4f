"""Indexes of tables that must take payments meanwhile, for migrations that are not atomic. What is tried once more, in
either direction, begins anew.
"""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations.operations.base import Operation

NOTHING = migrations.RunSQL.noop


def add_index(index: models.Index, *, to: str) -> list[Operation]:
    """Add it. One whose making was ended stays, is written to and never read."""
    forget = migrations.RunSQL(drop(index.name), NOTHING)
    return patiently(forget, AddIndexConcurrently(model_name=to, index=index))


def remove_index(name: str, *, of: str) -> list[Operation]:
    """Remove it."""
    forget = migrations.RunSQL(NOTHING, drop(name))
    return patiently(RemoveIndexConcurrently(model_name=of, name=name), forget)


def drop(name: str) -> str:
    """The statement."""
    return f"DROP INDEX CONCURRENTLY IF EXISTS {name}"


def patiently(*operations: Operation) -> list[Operation]:
    """PostgreSQL waits for all transactions of before, for longer than `lock_timeout` allows anybody else."""
    wait, as_before = "SET lock_timeout = 0", "RESET lock_timeout"
    return [migrations.RunSQL(wait, as_before), *operations, migrations.RunSQL(as_before, wait)]
