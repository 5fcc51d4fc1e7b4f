"""No role can set the trigger of deliveries' attempts aside."""

import core.migrations
import core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):
    # One transaction for each trigger: held together, the tables' locks would be a deadlock with the processes.
    atomic = False

    dependencies = [
        ('notifications', '0002_deliveries_by_age'),
    ]

    operations = [
        core.migrations.ReplaceTrigger(model_name='deliveryattempt', name='tries_are_kept'),
        pgtrigger.migrations.AddTrigger(
            model_name='deliveryattempt',
            trigger=pgtrigger.compiler.Trigger(name='tries_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='f589fd9a4545704fbb8a76039064611d5dd84cda', operation='UPDATE', pgid='pgtrigger_tries_are_kept_56941', table='notifications_deliveryattempt', when='BEFORE')),
        ),
    ]
