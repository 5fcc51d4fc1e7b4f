"""The numbers of a day, computed from payments by `analytics.numbers`, and the record of who computed them when."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from merchants.models import Merchant, Mode


class DailyMetric(models.Model):
    """What became of the payments that were accepted on one day, as the merchant's own clock has it.

    A payment counts on the day it was accepted, whenever it ends: the day's row follows it. Rows stand for one gateway
    or for all of them, for one currency or for all, for one merchant or for all: mean and percentiles of parts do not
    add up to those of the whole, so each is computed by itself.
    """

    id = models.BigAutoField(primary_key=True)
    day = models.DateField(help_text="In the merchant's time zone; of all merchants: each in its own.")
    merchant = models.ForeignKey(
        Merchant,
        on_delete=models.CASCADE,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: all of them.",
    )
    mode = models.CharField(max_length=4, choices=Mode.choices)
    currency = models.CharField(max_length=3, blank=True, help_text="Empty: all of them.")
    gateway = models.CharField(max_length=30, blank=True, help_text="Empty: all of them.")

    accepted = models.BigIntegerField(help_text="Payments accepted on this day: those below, and those still open.")
    succeeded = models.BigIntegerField(help_text="Of these: money was captured.")
    failed = models.BigIntegerField()
    canceled = models.BigIntegerField()
    volume = models.BigIntegerField(null=True, help_text="Captured, in minor units; empty where currencies differ.")
    refunded = models.BigIntegerField(null=True, help_text="Of the volume, given back.")
    refunds = models.BigIntegerField(help_text="Payments of which something was given back.")
    attempts = models.BigIntegerField(help_text="Charges sent to the gateway for all of them.")
    seconds_mean = models.FloatField(null=True, help_text="From accepted to final, of those that are.")
    seconds_p50 = models.FloatField(null=True)
    seconds_p95 = models.FloatField(null=True)
    seconds_p99 = models.FloatField(null=True)
    reasons = models.JSONField(
        default=dict, help_text="Why payments failed: error code (declined: decline code), count."
    )
    computed_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)
        indexes: ClassVar = [
            # GET /analytics/daily: one merchant's range of days. (The unique index begins with the day.)
            models.Index(fields=["merchant", "mode", "day"], name="daily_metric_of_merchant"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["day", "merchant", "mode", "currency", "gateway"],
                nulls_distinct=False,
                name="one_row_per_day_and_group",
            ),
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="daily_metric_mode_known"),
            models.CheckConstraint(
                condition=Q(accepted__gte=models.F("succeeded") + models.F("failed") + models.F("canceled")),
                name="daily_metric_parts_fit",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.merchant_id or 'all'} {self.mode} {self.currency or 'all'} {self.gateway or 'all'}"


class MetricsRun(models.Model):
    """One run of `compute_daily_metrics` that was committed. The next one begins where the latest has seen all."""

    id = models.BigAutoField(primary_key=True)
    first_day = models.DateField(null=True, help_text="Empty: there was nothing to compute.")
    last_day = models.DateField(null=True)
    rebuild = models.BooleanField(default=False, help_text="All days were computed anew.")
    rows = models.PositiveIntegerField(default=0, help_text="Rows inserted, changed or deleted.")
    seen_up_to = models.DateTimeField(help_text="All events that were committed before this time are counted.")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.first_day} to {self.last_day}, {self.rows} rows"
