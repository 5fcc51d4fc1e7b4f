"""No role can set the triggers of dead letters aside."""

import core.migrations
import core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):
    # One transaction for each trigger: held together, the tables' locks would be a deadlock with the processes.
    atomic = False

    dependencies = [
        ('messaging', '0006_clock_mark'),
    ]

    operations = [
        core.migrations.ReplaceTrigger(model_name='deadletter', name='resolved_once'),
        core.migrations.ReplaceTrigger(model_name='deadletter', name='open_letters_are_kept'),
        pgtrigger.migrations.AddTrigger(
            model_name='deadletter',
            trigger=pgtrigger.compiler.Trigger(name='resolved_once', sql=core.triggers.EnforcedTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."state", \':\', NEW."state") = ANY(\'{open:replayed,open:discarded,open:superseded}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."state" IS DISTINCT FROM NEW."state") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "state" from "%" to "%" on table %\', OLD."state", NEW."state", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='fef1bbc27c275931a934bb066caf3d06dedb29b0', operation='UPDATE', pgid='pgtrigger_resolved_once_96aa7', table='messaging_deadletter', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='deadletter',
            trigger=pgtrigger.compiler.Trigger(name='open_letters_are_kept', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (OLD."state" = \'open\')', func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;", hash='c0aec12598e5663a30222125a77d2b1f85e6cb94', operation='DELETE', pgid='pgtrigger_open_letters_are_kept_b58b9', table='messaging_deadletter', when='BEFORE')),
        ),
    ]
