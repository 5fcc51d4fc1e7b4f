"""Legal moves call the trigger no more: PostgreSQL sees beforehand that they are."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0011_keys_by_age'),
    ]

    operations = [
        pgtrigger.migrations.RemoveTrigger(
            model_name='payment',
            name='legal_moves',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='legal_moves', sql=pgtrigger.compiler.UpsertTriggerSql(condition="WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (('authorized', 'canceled'), ('authorized', 'succeeded'), ('failed', 'pending'), ('pending', 'canceled'), ('pending', 'processing'), ('processing', 'authorized'), ('processing', 'canceled'), ('processing', 'failed'), ('processing', 'succeeded'), ('processing', 'unknown'), ('unknown', 'authorized'), ('unknown', 'failed'), ('unknown', 'succeeded')))", declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{authorized:canceled,authorized:succeeded,failed:pending,pending:canceled,pending:processing,processing:authorized,processing:canceled,processing:failed,processing:succeeded,processing:unknown,unknown:authorized,unknown:failed,unknown:succeeded}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='8d8f6f5088dc93f224083b3198dd8d1e31f8371e', operation='UPDATE', pgid='pgtrigger_legal_moves_64595', table='payments_payment', when='BEFORE')),
        ),
    ]
