"""What is counted for rate limits where there is no Redis.

Both tables are UNLOGGED: a crash of PostgreSQL empties them, which forgives everybody once, and a write costs a
fraction of a durable one.
"""

from typing import ClassVar

from django.db import models


class Counter(models.Model):
    """How often something happened in one window of time."""

    key = models.CharField(primary_key=True, max_length=255)
    count = models.BigIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            # Pruning.
            models.Index(fields=["expires_at"], name="counter_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class Bucket(models.Model):
    """A token bucket, as the one time at which it will be full again (the GCRA of ATM networks)."""

    key = models.CharField(primary_key=True, max_length=255)
    # Without an index: each payment writes it, and the table has one row for each merchant and mode.
    full_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key}: full at {self.full_at}"
