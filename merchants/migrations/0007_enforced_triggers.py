"""No role can set the triggers of the audit aside; only the owner of the tables creates superusers."""

import core.migrations
import core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):
    # One transaction for each trigger: held together, the tables' locks would be a deadlock with the processes.
    atomic = False

    dependencies = [
        ('merchants', '0006_fewer_indexes'),
    ]

    operations = [
        core.migrations.ReplaceTrigger(model_name='approval', name='approval_is_decided_once'),
        core.migrations.ReplaceTrigger(model_name='approval', name='approvals_are_kept'),
        core.migrations.ReplaceTrigger(model_name='auditentry', name='audit_is_append_only'),
        pgtrigger.migrations.AddTrigger(
            model_name='apikey',
            trigger=pgtrigger.compiler.Trigger(name='revoked_key_stays_revoked', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL)', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='f479a0f93027006561168511f716f738d0216c50', operation='UPDATE', pgid='pgtrigger_revoked_key_stays_revoked_a3882', table='merchants_apikey', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='approval',
            trigger=pgtrigger.compiler.Trigger(name='approval_is_decided_once', sql=core.triggers.EnforcedTriggerSql(declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."state", \':\', NEW."state") = ANY(\'{pending:approved,pending:rejected,pending:withdrawn}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."state" IS DISTINCT FROM NEW."state") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "state" from "%" to "%" on table %\', OLD."state", NEW."state", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='2418dfe405417943007543dfa5871b5873f6ad13', operation='UPDATE', pgid='pgtrigger_approval_is_decided_once_d87d8', table='merchants_approval', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='approval',
            trigger=pgtrigger.compiler.Trigger(name='approvals_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;", hash='1e0a1fb22a0fb36e6467b7895ff53a1f145f1f96', operation='DELETE', pgid='pgtrigger_approvals_are_kept_41870', table='merchants_approval', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='auditentry',
            trigger=pgtrigger.compiler.Trigger(name='audit_is_append_only', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='0338bc666778f7a0990d09fb706945504429fa2f', operation='UPDATE OR DELETE', pgid='pgtrigger_audit_is_append_only_a49a2', table='merchants_auditentry', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='user',
            trigger=pgtrigger.compiler.Trigger(name='superusers_are_made_by_the_owner', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (NEW."is_superuser")', func="IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN RAISE EXCEPTION 'permission denied: superusers_are_made_by_the_owner is for the owner of table %', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END IF; RETURN NEW;", hash='226eed4986bd2cb8e1b77d10291df0bcfd4a15f1', operation='INSERT OR UPDATE OF "is_superuser"', pgid='pgtrigger_superusers_are_made_by_the_owner_c34b8', table='merchants_user', when='BEFORE')),
        ),
    ]
