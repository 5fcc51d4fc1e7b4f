"""No role can set the triggers of payments aside; recorded answers and captured charges are never changed."""

import core.migrations
import core.triggers
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations


class Migration(migrations.Migration):
    # One transaction for each trigger: held together, the tables' locks would be a deadlock with the processes.
    atomic = False

    dependencies = [
        ('payments', '0015_unmatched_charges'),
    ]

    operations = [
        core.migrations.ReplaceTrigger(model_name='attempt', name='attempts_are_kept'),
        core.migrations.ReplaceTrigger(model_name='payment', name='fence_never_falls'),
        core.migrations.ReplaceTrigger(model_name='payment', name='what_was_asked_stays'),
        core.migrations.ReplaceTrigger(model_name='payment', name='payments_are_kept'),
        core.migrations.ReplaceTrigger(model_name='payment', name='legal_moves'),
        core.migrations.ReplaceTrigger(model_name='paymentevent', name='events_are_kept'),
        core.migrations.ReplaceTrigger(model_name='unmatchedcharge', name='unmatched_charge_legal_moves'),
        core.migrations.ReplaceTrigger(model_name='unmatchedcharge', name='unmatched_charge_immutable'),
        core.migrations.ReplaceTrigger(model_name='unmatchedcharge', name='unmatched_charges_are_kept'),
        pgtrigger.migrations.AddTrigger(
            model_name='attempt',
            trigger=pgtrigger.compiler.Trigger(name='attempts_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;", hash='a714599f54813a0ef2317a01474f59f7216ff028', operation='DELETE', pgid='pgtrigger_attempts_are_kept_d8a12', table='payments_attempt', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='attempt',
            trigger=pgtrigger.compiler.Trigger(name='recorded_answer_is_kept', sql=core.triggers.EnforcedTriggerSql(condition="WHEN (OLD.outcome NOT IN ('', 'abandoned') AND (NEW.outcome <> OLD.outcome OR NEW.code <> OLD.code OR NEW.gateway_reference <> OLD.gateway_reference))", func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='ca96e6450fa574d7b218d22afcc2c6e1004c82e6', operation='UPDATE', pgid='pgtrigger_recorded_answer_is_kept_b04d7', table='payments_attempt', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='idempotencykey',
            trigger=pgtrigger.compiler.Trigger(name='stored_answer_is_kept', sql=core.triggers.EnforcedTriggerSql(condition="WHEN (NEW.fingerprint <> OLD.fingerprint OR (OLD.body <> '' AND (NEW.body <> OLD.body OR NEW.status_code <> OLD.status_code OR NEW.location <> OLD.location)))", func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='b7591dfd548c7141e0aaedbfad1baf2d960ccd46', operation='UPDATE', pgid='pgtrigger_stored_answer_is_kept_8621a', table='payments_idempotencykey', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='legal_moves', sql=core.triggers.EnforcedTriggerSql(condition="WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (('authorized', 'canceled'), ('authorized', 'succeeded'), ('failed', 'pending'), ('pending', 'canceled'), ('pending', 'processing'), ('processing', 'authorized'), ('processing', 'canceled'), ('processing', 'failed'), ('processing', 'succeeded'), ('processing', 'unknown'), ('unknown', 'authorized'), ('unknown', 'failed'), ('unknown', 'succeeded')))", declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{authorized:canceled,authorized:succeeded,failed:pending,pending:canceled,pending:processing,processing:authorized,processing:canceled,processing:failed,processing:succeeded,processing:unknown,unknown:authorized,unknown:failed,unknown:succeeded}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='78a2ebe95357452fc7b9949ccb395d97c53c80fa', operation='UPDATE', pgid='pgtrigger_legal_moves_64595', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='fence_never_falls', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (NEW."fence" < (OLD."fence"))', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='2829d544bb0eb9f9f61111caadf0209d6e7165e8', operation='UPDATE', pgid='pgtrigger_fence_never_falls_65c71', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='what_was_asked_stays', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (OLD."id" IS DISTINCT FROM (NEW."id") OR OLD."merchant_id" IS DISTINCT FROM (NEW."merchant_id") OR OLD."mode" IS DISTINCT FROM (NEW."mode") OR OLD."amount" IS DISTINCT FROM (NEW."amount") OR OLD."currency" IS DISTINCT FROM (NEW."currency") OR OLD."order_id" IS DISTINCT FROM (NEW."order_id") OR OLD."created_at" IS DISTINCT FROM (NEW."created_at"))', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='d9ece7eafea7d9e2bee2b5f5b43a9dec069775cc', operation='UPDATE', pgid='pgtrigger_what_was_asked_stays_3f6dd', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='payments_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;", hash='ac9f122a7a352a034e8b6c95ada14fb06b8a921e', operation='DELETE', pgid='pgtrigger_payments_are_kept_18a0f', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='recorded_charge_is_kept', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (OLD.amount_captured > 0 AND (NEW.amount_captured < OLD.amount_captured OR NEW.gateway_reference <> OLD.gateway_reference OR NEW.key_number <> OLD.key_number))', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='f001a3ace0f85e72e5c9b89c7719e9ddec9a601a', operation='UPDATE', pgid='pgtrigger_recorded_charge_is_kept_1f275', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='payment',
            trigger=pgtrigger.compiler.Trigger(name='payments_begin_pending', sql=core.triggers.EnforcedTriggerSql(condition="WHEN (NEW.status <> 'pending' OR NEW.amount_captured <> 0 OR NEW.amount_refunded <> 0 OR NEW.fence <> 0)", func="IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN RAISE EXCEPTION 'permission denied: payments_begin_pending is for the owner of table %', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END IF; RETURN NEW;", hash='51af5f86a1b00adfde0579488f9dadec23da7a10', operation='INSERT', pgid='pgtrigger_payments_begin_pending_5dac0', table='payments_payment', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='paymentevent',
            trigger=pgtrigger.compiler.Trigger(name='events_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='51dc321da54633c9e14ea507e2f7b01ea9024d6b', operation='UPDATE OR DELETE', pgid='pgtrigger_events_are_kept_54e20', table='payments_paymentevent', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='unmatchedcharge',
            trigger=pgtrigger.compiler.Trigger(name='unmatched_charge_legal_moves', sql=core.triggers.EnforcedTriggerSql(condition="WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (('open', 'adopted'), ('open', 'dismissed'), ('open', 'matched'), ('open', 'refunding'), ('refunding', 'open'), ('refunding', 'refunded')))", declare='DECLARE _is_valid_transition BOOLEAN;', func='SELECT CONCAT(OLD."state", \':\', NEW."state") = ANY(\'{open:adopted,open:dismissed,open:matched,open:refunding,refunding:open,refunding:refunded}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."state" IS DISTINCT FROM NEW."state") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "state" from "%" to "%" on table %\', OLD."state", NEW."state", TG_TABLE_NAME; ELSE RETURN NEW; END IF;', hash='36b3b17885dec0e5d5b9bc469ecb2ac7782b5a90', operation='UPDATE', pgid='pgtrigger_unmatched_charge_legal_moves_a16be', table='payments_unmatchedcharge', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='unmatchedcharge',
            trigger=pgtrigger.compiler.Trigger(name='unmatched_charge_immutable', sql=core.triggers.EnforcedTriggerSql(condition='WHEN (OLD."gateway" IS DISTINCT FROM (NEW."gateway") OR OLD."reference" IS DISTINCT FROM (NEW."reference") OR OLD."gateway_key" IS DISTINCT FROM (NEW."gateway_key") OR OLD."gateway_payment_id" IS DISTINCT FROM (NEW."gateway_payment_id") OR OLD."merchant_slug" IS DISTINCT FROM (NEW."merchant_slug") OR OLD."order_id" IS DISTINCT FROM (NEW."order_id") OR OLD."amount" IS DISTINCT FROM (NEW."amount") OR OLD."currency" IS DISTINCT FROM (NEW."currency") OR OLD."charged_at" IS DISTINCT FROM (NEW."charged_at") OR OLD."reason" IS DISTINCT FROM (NEW."reason") OR OLD."source" IS DISTINCT FROM (NEW."source") OR OLD."created_at" IS DISTINCT FROM (NEW."created_at"))', func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;", hash='c045f48dd67cfa3d2f220b6f653ad129509f09cb', operation='UPDATE', pgid='pgtrigger_unmatched_charge_immutable_fa238', table='payments_unmatchedcharge', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='unmatchedcharge',
            trigger=pgtrigger.compiler.Trigger(name='unmatched_charges_are_kept', sql=core.triggers.EnforcedTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;", hash='de4f5878a9e86face10d80a3930c9af88d507e3a', operation='DELETE', pgid='pgtrigger_unmatched_charges_are_kept_22d19', table='payments_unmatchedcharge', when='BEFORE')),
        ),
    ]
