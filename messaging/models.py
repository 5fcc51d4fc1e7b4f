"""The tables of messaging: messages waiting to be published, dead letters, and signs of life."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class OutboxMessage(models.Model):
    """A message to publish. It exists from the commit that staged it until the broker confirmed it."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(default=uuid.uuid4)
    queue = models.CharField(max_length=100)
    actor = models.CharField(max_length=100)
    payload = models.JSONField(help_text="The actor's keyword arguments: ids only, never personal data.")
    request_id = models.CharField(max_length=128, blank=True)
    options = models.JSONField(default=dict, help_text="What the message carries besides its arguments.")
    returns = models.PositiveSmallIntegerField(
        default=0, help_text="How often the broker has refused it or found no queue for it."
    )
    available_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # The relay's poll: what is due, oldest first.
            models.Index(fields=["available_at", "id"], name="outbox_due"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.message_id}"


class DeadLetter(models.Model):
    """A message that will not be tried again by itself, kept until somebody decides."""

    class State(models.TextChoices):
        OPEN = "open"
        REPLAYED = "replayed"
        DISCARDED = "discarded"
        SUPERSEDED = "superseded"

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    queue = models.CharField(max_length=100)
    actor = models.CharField(max_length=100)
    payload = models.JSONField()
    cause = models.CharField(max_length=100, help_text="An error code, or the class of the exception.")
    detail = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    attempts = models.PositiveIntegerField()
    subject = models.CharField(max_length=100, blank=True, help_text="What it concerns, as `payment:<id>`.")
    request_id = models.CharField(max_length=128, blank=True)
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # The console's list of what is still open, newest first, and the open count in the metrics.
            models.Index(fields=["-id"], condition=Q(state="open"), name="dead_letter_open"),
            # One payment's page: its dead letters.
            models.Index(fields=["subject"], name="dead_letter_subject"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=["open", "replayed", "discarded", "superseded"]), name="dead_letter_state_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.cause}: {self.subject or self.actor}"


class Heartbeat(models.Model):
    """A process's sign of life, renewed every few seconds."""

    process = models.CharField(max_length=30)
    instance = models.CharField(max_length=100)
    note = models.CharField(
        max_length=200, blank=True, help_text="What is wrong, in a few words; empty when all is well."
    )
    beat_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["process", "instance"], name="one_heartbeat_per_instance"),
        ]

    def __str__(self) -> str:
        return f"{self.process} {self.instance}"
