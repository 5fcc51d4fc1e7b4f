"""Indexes that another one begins with go: each was written at every payment and read by no query.

And dead versions of payments and attempts, of which each payment leaves three, go sooner: by PostgreSQL's own fifth of a
table, two million of them would wait among ten million payments.
"""

import django.db.models.deletion
from django.db import migrations, models

TABLES = ("payments_payment", "payments_attempt")
#: By their names: Django would take the guard `one_unfinished_attempt` for the key's own index, and drop it as well.
INDEXES = {
    "payments_attempt_payment_id_a18ea4ce": "payments_attempt (payment_id)",
    "payments_idempotencykey_merchant_id_1ee9066e": "payments_idempotencykey (merchant_id)",
    "payments_payment_merchant_id_2ca42133": "payments_payment (merchant_id)",
    "payments_paymentevent_payment_id_1fde19d5": "payments_paymentevent (payment_id)",
}


class Migration(migrations.Migration):
    # The tables are in use meanwhile. In one transaction their locks would be held until its end, in an order that is
    # not that of a claim.
    atomic = False

    dependencies = [
        ('merchants', '0005_ceilings'),
        ('payments', '0007_age'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX CONCURRENTLY IF EXISTS {name}", f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}"
                )
                for name, columns in INDEXES.items()
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='attempt',
                    name='payment',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='payments.payment'),
                ),
                migrations.AlterField(
                    model_name='idempotencykey',
                    name='merchant',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='merchants.merchant'),
                ),
                migrations.AlterField(
                    model_name='payment',
                    name='merchant',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='payments', to='merchants.merchant'),
                ),
                migrations.AlterField(
                    model_name='paymentevent',
                    name='payment',
                    field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='payments.payment'),
                ),
            ],
        ),
        *(
            migrations.RunSQL(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02)",
                f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)",
            )
            for table in TABLES
        ),
    ]
