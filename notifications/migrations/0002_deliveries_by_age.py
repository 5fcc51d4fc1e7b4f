"""Deliveries are pruned by an ordinary index: a BRIN is good as long as nothing was pruned, and new rows lie behind old
ones.
"""

from django.db import migrations, models

from payments.migrations._concurrently import add_index, remove_index


class Migration(migrations.Migration):
    # Events are told meanwhile.
    atomic = False

    dependencies = [('notifications', '0001_initial')]

    operations = [
        *add_index(models.Index(fields=['created_at'], name='delivery_made'), to='delivery'),
        *remove_index('delivery_age', of='delivery'),
        # An unreleased migration had taken away what an endpoint's list is planned by.
        migrations.RunSQL(
            "ALTER TABLE notifications_delivery ALTER merchant_id SET STATISTICS -1", migrations.RunSQL.noop
        ),
    ]
