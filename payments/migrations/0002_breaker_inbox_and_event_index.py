import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


# Events are append-only, by a trigger; this once they are completed with what their payment says.
FILL_EVENTS = """
    ALTER TABLE payments_paymentevent DISABLE TRIGGER USER;
    UPDATE payments_paymentevent AS event SET merchant_id = payment.merchant_id, mode = payment.mode
    FROM payments_payment AS payment WHERE payment.id = event.payment_id;
    ALTER TABLE payments_paymentevent ENABLE TRIGGER USER;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('merchants', '0001_initial'),
        ('payments', '0001_initial'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='payment',
            options={'permissions': [('retry_payment', 'Can have a waiting payment taken up now')]},
        ),
        migrations.CreateModel(
            name='GatewayCircuit',
            fields=[
                ('gateway', models.CharField(max_length=30, primary_key=True, serialize=False)),
                ('open_until', models.DateTimeField(blank=True, help_text='The breaker is open: no call before it, then one probe at a time.', null=True)),
                ('openings', models.PositiveIntegerField(default=0, help_text='Openings in a row; each lasts longer.')),
                ('probing_until', models.DateTimeField(blank=True, help_text='The lease of the probe under way.', null=True)),
                ('closed_at', models.DateTimeField(blank=True, help_text='When the breaker last closed; earlier failures do not count.', null=True)),
                ('paused_at', models.DateTimeField(blank=True, help_text='People have stopped all calls.', null=True)),
                ('pause_reason', models.CharField(blank=True, max_length=200)),
                ('paused_by', models.CharField(blank=True, max_length=150)),
            ],
        ),
        migrations.CreateModel(
            name='GatewayEvent',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('gateway', models.CharField(max_length=30)),
                ('event_id', models.CharField(help_text="The gateway's own id; it may tell the same twice.", max_length=255)),
                ('type', models.CharField(max_length=100)),
                ('body', models.JSONField()),
                ('result', models.CharField(blank=True, help_text='What it led to; empty until it is handled.', max_length=50)),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('handled_at', models.DateTimeField(blank=True, null=True)),
                ('revive_at', models.DateTimeField(blank=True, help_text='When the rescue stages it again, if it is not handled by then.', null=True)),
            ],
        ),
        migrations.AddField(
            model_name='idempotencykey',
            name='replays',
            field=models.PositiveIntegerField(db_default=0, help_text='How many duplicates of the request it has absorbed.'),
        ),
        migrations.AddField(
            model_name='payment',
            name='charge_before',
            field=models.DateTimeField(blank=True, help_text='No charge is begun from then on: its payer would be surprised.', null=True),
        ),
        migrations.AddField(
            model_name='payment',
            name='held_since',
            field=models.DateTimeField(blank=True, help_text='Its gateway is paused or its breaker open; released when calls flow again.', null=True),
        ),
        migrations.AddField(
            model_name='paymentevent',
            name='merchant',
            field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='merchants.merchant'),
        ),
        migrations.AddField(
            model_name='paymentevent',
            name='mode',
            field=models.CharField(choices=[('test', 'Test'), ('live', 'Live')], max_length=4, null=True),
        ),
        migrations.RunSQL(FILL_EVENTS, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='paymentevent',
            name='merchant',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='merchants.merchant'),
        ),
        migrations.AlterField(
            model_name='paymentevent',
            name='mode',
            field=models.CharField(choices=[('test', 'Test'), ('live', 'Live')], max_length=4),
        ),
        migrations.AddIndex(
            model_name='idempotencykey',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['created_at'], name='idempotency_key_age'),
        ),
        migrations.AddIndex(
            model_name='payment',
            index=models.Index(condition=models.Q(('held_since__isnull', False)), fields=['gateway', 'charge_attempts', 'held_since'], name='payment_held'),
        ),
        migrations.AddIndex(
            model_name='paymentevent',
            index=models.Index(fields=['merchant', 'mode', '-id'], name='event_newest'),
        ),
        migrations.AddConstraint(
            model_name='payment',
            constraint=models.CheckConstraint(condition=models.Q(('held_since__isnull', True), models.Q(('lease_expires_at__isnull', True), ('status__in', ['processing', 'unknown'])), _connector='OR'), name='payment_held_between_calls'),
        ),
        migrations.AddConstraint(
            model_name='gatewaycircuit',
            constraint=models.CheckConstraint(condition=models.Q(('paused_at__isnull', True), models.Q(('pause_reason', ''), _negated=True), _connector='OR'), name='circuit_pause_has_a_reason'),
        ),
        migrations.AddConstraint(
            model_name='gatewaycircuit',
            constraint=models.CheckConstraint(condition=models.Q(('probing_until__isnull', True), ('open_until__isnull', False), _connector='OR'), name='circuit_probes_while_open'),
        ),
        migrations.AddField(
            model_name='gatewayevent',
            name='payment',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='gateway_events', to='payments.payment'),
        ),
        migrations.AddIndex(
            model_name='gatewayevent',
            index=models.Index(condition=models.Q(('revive_at__isnull', False)), fields=['revive_at'], name='gateway_event_revive'),
        ),
        migrations.AddConstraint(
            model_name='gatewayevent',
            constraint=models.UniqueConstraint(fields=('gateway', 'event_id'), name='one_row_per_gateway_event'),
        ),
        migrations.AddConstraint(
            model_name='gatewayevent',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('handled_at__isnull', True), ('result', ''), ('revive_at__isnull', False)), models.Q(('handled_at__isnull', False), ('revive_at__isnull', True), models.Q(('result', ''), _negated=True)), _connector='OR'), name='gateway_event_handled_or_rescued'),
        ),
    ]
