"""Percentiles are by the nearest rank now, and they and means of whole milliseconds. The next run computes all days."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("analytics", "0001_daily_metrics")]

    operations = [migrations.RunSQL("DELETE FROM analytics_metricsrun", migrations.RunSQL.noop)]
