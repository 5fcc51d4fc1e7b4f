"""Gateway keys derive from requests, and payments are found by their charge.

Payments of before keep an empty base: their keys begin with their ids, as they were sent.
"""

from django.db import migrations, models

from payments.migrations._concurrently import add_index


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("payments", "0013_answers_by_time"),
    ]

    operations = [
        migrations.AddField(
            model_name="payment",
            name="gateway_key_base",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="What the gateway's idempotency keys begin with: derived from merchant, mode and the "
                "client's key.",
                max_length=64,
            ),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("approved", "Approved"),
                    ("declined", "Declined"),
                    ("rejected", "Rejected"),
                    ("unavailable", "Unavailable"),
                    ("unknown", "Unknown"),
                    ("not_found", "Not Found"),
                    ("abandoned", "Abandoned"),
                ],
                max_length=12,
            ),
        ),
        *add_index(
            models.Index(
                fields=["gateway_reference"],
                name="payment_by_charge",
                condition=~models.Q(gateway_reference=""),
            ),
            to="payment",
        ),
    ]
