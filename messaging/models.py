"""The tables of messaging: messages to publish, dead letters and what was decided on them, and signs of life.

What a release adds to a table has a default in the database: processes of the release before go on writing to it
until each is replaced, and no payment may be refused meanwhile.
"""

import uuid
from typing import ClassVar

import pgtrigger
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core.triggers import FSM, Protect


class OutboxMessage(models.Model):
    """A message to publish. It exists from the commit that staged it until the broker confirmed it."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(default=uuid.uuid4)
    exchange = models.CharField(
        max_length=100, blank=True, default="", db_default="", help_text="Empty: it goes straight to its queue."
    )
    queue = models.CharField(max_length=100, help_text="The queue; with an exchange, the routing key.")
    actor = models.CharField(max_length=100, blank=True)
    payload = models.JSONField(
        default=dict, blank=True, help_text="The actor's keyword arguments: ids only, never personal data."
    )
    body = models.BinaryField(null=True, blank=True, help_text="What is published where no actor receives it.")
    subscriber = models.CharField(
        max_length=30,
        blank=True,
        default="",
        db_default="",
        help_text="The room of ours that takes it from here; empty: it goes to the broker.",
    )
    waits = models.BooleanField(
        default=False, db_default=False, help_text="It may wait: its trouble is not that of what is to be charged."
    )
    request_id = models.CharField(max_length=128, blank=True)
    options = models.JSONField(default=dict, blank=True, help_text="What the message carries besides.")
    returns = models.PositiveSmallIntegerField(
        default=0, help_text="How often the broker has refused it or found no queue for it."
    )
    available_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # The relay's polls, of what is due, oldest first: events that no subscriber takes must not be waded
            # through on the way to the payments.
            models.Index(
                fields=["available_at", "id"],
                condition=Q(exchange="", subscriber="", waits=False),
                name="outbox_due_work",
            ),
            models.Index(
                fields=["available_at", "id"],
                condition=Q(exchange="", subscriber="", waits=True),
                name="outbox_due_patient",
            ),
            models.Index(fields=["available_at", "id"], condition=~Q(exchange=""), name="outbox_events_due"),
            # What our own rooms take, by themselves.
            models.Index(
                fields=["subscriber", "available_at", "id"], condition=~Q(subscriber=""), name="outbox_subscribed"
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(~Q(actor="") & Q(body__isnull=True)) | Q(actor="", body__isnull=False),
                name="outbox_actor_or_body",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor or self.queue} {self.message_id}"


class ClockMark(models.Model):
    """The latest time that was seen on the database's clock: one row. A clock that is behind it was set back."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    latest_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="clock_mark_is_one_row")]

    def __str__(self) -> str:
        return self.latest_at.isoformat()


class Resolution(models.Model):
    """What people decided about dead letters: to replay or to discard them; who, when, why, and how far it has come."""

    class Action(models.TextChoices):
        REPLAY = "replay"
        DISCARD = "discard"

    class State(models.TextChoices):
        RUNNING = "running"
        STOPPED = "stopped"
        DONE = "done"

    id = models.BigAutoField(primary_key=True)
    action = models.CharField(max_length=7, choices=Action.choices)
    state = models.CharField(max_length=7, choices=State.choices, default=State.RUNNING)
    reason = models.CharField(max_length=500)
    decided_by = models.CharField(max_length=150)
    selection = models.JSONField(help_text="Which letters were chosen: their ids, or the filter.")
    rate = models.PositiveIntegerField(null=True, blank=True, help_text="Letters per second at most.")
    total = models.PositiveIntegerField(default=0)
    replayed = models.PositiveIntegerField(default=0)
    discarded = models.PositiveIntegerField(default=0)
    superseded = models.PositiveIntegerField(default=0, help_text="Settled already, and so left alone.")
    blocked = models.PositiveIntegerField(default=0, help_text="Could not go back, and stay open.")
    last_taken = models.BigIntegerField(default=0, help_text="Its letters up to this id have been taken in hand.")
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    revive_at = models.DateTimeField(
        null=True, blank=True, help_text="When it is taken up again, if nobody works on it by then."
    )
    request_id = models.CharField(max_length=128, blank=True)

    class Meta:
        permissions: ClassVar = [("resolve_deadletter", "Can replay and discard dead letters")]
        indexes: ClassVar = [
            # The rescue's poll; nearly always empty.
            models.Index(fields=["revive_at"], name="resolution_revive", condition=Q(revive_at__isnull=False)),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(reason=""), name="resolution_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="running", revive_at__isnull=False)
                | (~Q(state="running") & Q(revive_at__isnull=True)),
                name="resolution_running_is_rescued",
            ),
            models.CheckConstraint(
                condition=Q(state="done", finished_at__isnull=False) | (~Q(state="done") & Q(finished_at__isnull=True)),
                name="resolution_finished_iff_done",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.pk}"

    @property
    def taken(self) -> int:
        """How many of its letters have been taken in hand."""
        return self.replayed + self.discarded + self.superseded + self.blocked


class DeadLetter(models.Model):
    """A message that will not be tried again by itself, kept until somebody decides.

    `open -> replayed` sends it out again under a new message id; a second death is a row of its own.
    `superseded`: what it concerns has been settled by another way.
    """

    class State(models.TextChoices):
        OPEN = "open"
        REPLAYED = "replayed"
        DISCARDED = "discarded"
        SUPERSEDED = "superseded"

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(unique=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    queue = models.CharField(max_length=100)
    actor = models.CharField(max_length=100, blank=True)
    payload = models.JSONField(default=dict, blank=True)
    body = models.BinaryField(null=True, blank=True, help_text="What came, where it was no message to an actor.")
    body_size = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Bytes that came; of a huge body the rest is gone."
    )
    cause = models.CharField(max_length=100, help_text="An error code, or the class of the exception.")
    detail = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    attempts = models.PositiveIntegerField()
    subject = models.CharField(max_length=100, blank=True, help_text="What it concerns, as `payment:<id>`.")
    request_id = models.CharField(max_length=128, blank=True)
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())
    previous = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The letter whose replay ended in this one.",
    )
    resolution = models.ForeignKey(
        Resolution, on_delete=models.PROTECT, null=True, blank=True, related_name="letters", db_index=False
    )
    resolved_at = models.DateTimeField(null=True, blank=True)
    replayed_as = models.UUIDField(null=True, blank=True, help_text="The message id under which it went out again.")
    note = models.CharField(
        max_length=500, blank=True, default="", db_default="", help_text="What came of the last attempt to resolve it."
    )

    class Meta:
        indexes: ClassVar = [
            # The console's list of what is still open, newest first, and the open count in the metrics.
            models.Index(fields=["-id"], condition=Q(state="open"), name="dead_letter_open"),
            # One payment's page: its dead letters.
            models.Index(fields=["subject"], name="dead_letter_subject"),
            # What a resolution has still to do, in its order; and what it has done.
            models.Index(fields=["resolution", "state", "id"], name="dead_letter_resolution"),
            # Pruning: the resolved ones, by the time of it.
            models.Index(fields=["resolved_at"], condition=Q(resolved_at__isnull=False), name="dead_letter_resolved"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=["open", "replayed", "discarded", "superseded"]), name="dead_letter_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state="open", resolved_at__isnull=True) | (~Q(state="open") & Q(resolved_at__isnull=False)),
                name="dead_letter_resolved_iff_closed",
            ),
        ]
        triggers: ClassVar = [
            FSM(
                name="resolved_once",
                field="state",
                transitions=[("open", to) for to in ("replayed", "discarded", "superseded")],
            ),
            Protect(name="open_letters_are_kept", operation=pgtrigger.Delete, condition=pgtrigger.Q(old__state="open")),
        ]

    def __str__(self) -> str:
        return f"{self.cause}: {self.subject or self.actor or self.queue}"


class DeathCount(models.Model):
    """How many dead letters there ever were, by kind: the counter behind the metric. Pruning does not lower it."""

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(max_length=100)
    actor = models.CharField(max_length=100, blank=True)
    cause = models.CharField(max_length=100)
    total = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["queue", "actor", "cause"], name="one_count_per_kind_of_death"),
        ]

    def __str__(self) -> str:
        return f"{self.queue} {self.actor} {self.cause}: {self.total}"


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
