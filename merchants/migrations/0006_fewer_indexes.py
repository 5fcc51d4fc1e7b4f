"""No index that another one begins with: it is written and never read."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# By their names: Django itself would drop foreign keys as well, and look at all rows to make them anew.
INDEXES = {
    "merchants_auditentry_merchant_id_0c863846": "merchants_auditentry (merchant_id)",
    "merchants_membership_user_id_572edf71": "merchants_membership (user_id)",
}


class Migration(migrations.Migration):
    # The tables are in use meanwhile.
    atomic = False

    dependencies = [
        ('merchants', '0005_ceilings'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")
                for name, columns in INDEXES.items()
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='auditentry',
                    name='merchant',
                    field=models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='merchants.merchant'),
                ),
                migrations.AlterField(
                    model_name='membership',
                    name='user',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL),
                ),
            ],
        ),
    ]
