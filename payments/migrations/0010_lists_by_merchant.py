"""A merchant's list is read by that merchant's own index, however many of all payments are its own.

Told by statistics that a merchant has many, PostgreSQL reads backwards what is newest of all, expecting to meet that
merchant's soon: once it has paused and others have not, it meets none for as long as they went on, at every page.
Without statistics of the column it expects few of each. Those that a database has already stay; PostgreSQL 18 forgets
them by `SELECT pg_clear_attribute_stats('public', 'payments_payment', 'merchant_id', false)`, and an upgrade with
`pg_upgrade --no-statistics` as well.
"""

from django.db import migrations

TABLES = ("payments_payment", "payments_paymentevent")


class Migration(migrations.Migration):
    dependencies = [('payments', '0009_refunded')]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} ALTER merchant_id SET STATISTICS 0",
            f"ALTER TABLE {table} ALTER merchant_id SET STATISTICS -1",
        )
        for table in TABLES
    ]
