"""The table that all peers share."""

from django.db import models


class Payment(models.Model):
    """A row of `payment`; what the task does not touch is left out."""

    id = models.UUIDField(primary_key=True)
    status = models.TextField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "payment"
        managed = False

    def __str__(self) -> str:
        return str(self.id)
