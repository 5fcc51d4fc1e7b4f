"""An index for a table that must take payments meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def add_index(index: models.Index, *, to: str) -> list[Operation]:
    """Add it in migrations that are not atomic; what is tried once more begins anew.

    PostgreSQL waits for all transactions of before, for longer than `lock_timeout` allows anybody else. An index whose
    making was ended stays, is written to and never read.
    """
    nothing = migrations.RunSQL.noop
    return [
        migrations.RunSQL("SET lock_timeout = 0", nothing),
        migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}", nothing),
        AddIndexConcurrently(model_name=to, index=index),
        migrations.RunSQL("RESET lock_timeout", nothing),
    ]
