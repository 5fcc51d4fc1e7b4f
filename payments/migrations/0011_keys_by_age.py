"""Keys are pruned by an ordinary index: a BRIN is good as long as nothing was pruned, and new rows lie behind old ones.

And blocks have no index that their unique one begins with.
"""

import django.db.models.deletion
from django.db import migrations, models

from payments.migrations._concurrently import add_index, remove_index


class Migration(migrations.Migration):
    # Each request adds a key meanwhile.
    atomic = False

    dependencies = [
        ('merchants', '0006_fewer_indexes'),
        ('payments', '0010_lists_by_merchant'),
    ]

    operations = [
        *add_index(models.Index(fields=['created_at'], name='idempotency_key_stored'), to='idempotencykey'),
        *remove_index('idempotency_key_age', of='idempotencykey'),
        # By its name: Django itself would drop the foreign key as well, and lock merchants to make it anew.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS payments_declineblock_merchant_id_9c29f1dd",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_declineblock_merchant_id_9c29f1dd ON payments_declineblock (merchant_id)",
                ),
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='declineblock',
                    name='merchant',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='merchants.merchant'),
                ),
            ],
        ),
    ]
