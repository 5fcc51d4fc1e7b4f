"""No index that another one begins with: it is written and never read."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    # The tables are in use meanwhile.
    atomic = False

    dependencies = [
        ('analytics', '0002_all_days_anew'),
        ('merchants', '0006_fewer_indexes'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                # By its name: Django itself would drop the foreign key as well, and look at all rows to make it anew.
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS analytics_dailymetric_merchant_id_68dd7d88",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS analytics_dailymetric_merchant_id_68dd7d88 ON analytics_dailymetric (merchant_id)",
                ),
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='dailymetric',
                    name='merchant',
                    field=models.ForeignKey(blank=True, db_index=False, help_text='Empty: all of them.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='merchants.merchant'),
                ),
            ],
        ),
    ]
