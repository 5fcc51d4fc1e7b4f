"""As of payments, in their migration of the same name: a merchant's deliveries are read by its own index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [('notifications', '0001_initial')]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE notifications_delivery ALTER merchant_id SET STATISTICS 0",
            "ALTER TABLE notifications_delivery ALTER merchant_id SET STATISTICS -1",
        )
    ]
