from django.db import migrations, models

from payments.migrations._concurrently import add_index


class Migration(migrations.Migration):
    # The table of payments is large, and must take payments meanwhile.
    atomic = False

    dependencies = [('payments', '0008_fewer_indexes')]

    operations = add_index(
        models.Index(condition=models.Q(('amount_refunded__gt', 0)), fields=['created_at'], name='payment_refunded'),
        to='payment',
    )
