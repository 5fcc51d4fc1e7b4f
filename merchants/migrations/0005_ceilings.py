"""No ceilings are an object without members: the default of before was the JSON string "{}"."""

import merchants.ceilings
from django.db import migrations, models

MEND = "UPDATE merchants_merchant SET amount_ceilings = '{}' WHERE jsonb_typeof(amount_ceilings) <> 'object'"


class Migration(migrations.Migration):

    dependencies = [
        ('merchants', '0004_time_zone'),
    ]

    operations = [
        migrations.AlterField(
            model_name='merchant',
            name='amount_ceilings',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict, help_text='The highest amount of one payment, in major units by currency: {"EUR": "5000.00"}. A currency that is not named has none.', validators=[merchants.ceilings.validate_ceilings]),
        ),
        migrations.RunSQL(MEND, migrations.RunSQL.noop),
    ]
