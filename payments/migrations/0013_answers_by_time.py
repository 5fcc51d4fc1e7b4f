"""The breaker counts the answers that came last, and no more those to the calls that were begun last."""

from django.db import migrations, models

from payments.migrations._concurrently import add_index


class Migration(migrations.Migration):
    # The table of attempts is large, and payments are charged meanwhile.
    atomic = False

    dependencies = [('payments', '0012_legal_moves_sooner')]

    operations = add_index(
        models.Index(
            condition=models.Q(('outcome__in', ['', 'abandoned']), _negated=True),
            fields=['finished_at'],
            name='attempt_answered',
        ),
        to='attempt',
    )
