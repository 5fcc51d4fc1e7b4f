"""A merchant's list is read by that merchant's own index, however many of all payments are its own.

Told by statistics that a merchant has many, PostgreSQL reads backwards what is newest of all, expecting to meet that
merchant's soon: once it has paused and others have not, that is all they have added since. Without statistics of the
column it expects few of each. Statistics that a database has already are forgotten here by PostgreSQL 18; in one of
before they stay, unless a superuser deletes that column's row of `pg_statistic`.
"""

from django.db import migrations

TABLES = ("payments_payment", "payments_paymentevent")
FORGET = """
    DO $$ BEGIN
        IF to_regprocedure('pg_clear_attribute_stats(text, text, text, boolean)') IS NOT NULL THEN
            PERFORM pg_clear_attribute_stats(current_schema(), '{table}', 'merchant_id', false);
        END IF;
    END $$
"""


class Migration(migrations.Migration):
    dependencies = [('payments', '0009_refunded')]

    operations = [
        migrations.RunSQL(
            [f"ALTER TABLE {table} ALTER merchant_id SET STATISTICS 0", FORGET.format(table=table)],
            f"ALTER TABLE {table} ALTER merchant_id SET STATISTICS -1",
        )
        for table in TABLES
    ]
