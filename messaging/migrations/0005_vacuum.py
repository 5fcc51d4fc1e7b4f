"""The outbox is vacuumed by what went through it, not by its size: nearly empty, it has had every message there was."""

from django.db import migrations

#: Rows; a few seconds' worth under load. Without pauses: it is small, and the relay reads past what is dead.
SET = """
    ALTER TABLE messaging_outboxmessage SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
    )
"""
RESET = """
    ALTER TABLE messaging_outboxmessage RESET (
        autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay
    )
"""


class Migration(migrations.Migration):

    dependencies = [
        ('messaging', '0004_subscribers'),
    ]

    operations = [migrations.RunSQL(SET, RESET)]
