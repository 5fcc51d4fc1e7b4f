"""No index that another one begins with: it is written and never read."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0002_all_days_anew'),
        ('merchants', '0006_fewer_indexes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='dailymetric',
            name='merchant',
            field=models.ForeignKey(blank=True, db_index=False, help_text='Empty: all of them.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='merchants.merchant'),
        ),
    ]
