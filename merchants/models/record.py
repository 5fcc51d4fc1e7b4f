"""Who did what, and what waits for a second person."""

import uuid
from typing import ClassVar, Final

import pgtrigger
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.db.models.lookups import Exact

from core.triggers import FSM, Protect
from merchants.models.people import Merchant

#: Names are compared without their case.
SAME_PERSON: Final = Exact(Lower("decided_by"), Lower("requested_by"))


class AuditEntry(models.Model):
    """Who did what, when, why, from where; before and after. Written with what it tells of, and never changed."""

    class Via(models.TextChoices):
        CONSOLE = "console"
        API = "api", "API"
        COMMAND = "command"
        SYSTEM = "system"

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now(), editable=False)
    actor = models.CharField(max_length=160, help_text="`user:ada`, `key:sk_test_abc`, `shell:root`, or `system`.")
    via = models.CharField(max_length=7, choices=Via.choices)
    address = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    action = models.CharField(max_length=60, help_text="What was done, as `api_key.revoked`.")
    subject = models.CharField(max_length=150, blank=True, help_text="To what, as `api_key:<id>`.")
    # The entry outlives what it tells of, and must not keep it from being deleted.
    merchant = models.ForeignKey(
        Merchant,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
        related_name="+",
    )
    reason = models.CharField(max_length=500, blank=True)
    before = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    after = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)

    class Meta:
        verbose_name_plural = "audit entries"
        default_permissions = ("view",)
        indexes: ClassVar = [
            # All that was done to one thing, to one merchant's things, or by one actor; the newest first.
            models.Index(fields=["subject", "-id"], name="audit_subject"),
            models.Index(fields=["merchant", "-id"], name="audit_merchant"),
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            # What one request did.
            models.Index(fields=["request_id", "-id"], name="audit_request"),
        ]
        triggers: ClassVar = [
            Protect(name="audit_is_append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject}"


class Approval(models.Model):
    """Something large that one person asked for, and that another one must agree to before it is done."""

    class State(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    action = models.CharField(max_length=60, help_text="What will be done, as `dead_letters.replay`.")
    payload = models.JSONField(help_text="All that is needed to do it: what was asked for is what is done.")
    summary = models.CharField(max_length=500, help_text="In words, for the second person.")
    count = models.PositiveIntegerField(default=0, help_text="How many things it is about.")
    sums = models.JSONField(default=dict, help_text="The money at stake, in major units by currency.")
    reason = models.CharField(max_length=500)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(help_text="Nobody can approve it afterwards.")
    request_id = models.CharField(max_length=128, blank=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=500, blank=True)
    result = models.CharField(max_length=100, blank=True, help_text="What came of it, as `resolution:7`.")

    class Meta:
        default_permissions = ("view",)
        permissions: ClassVar = [("decide_approval", "Can approve and reject what others ask for")]
        indexes: ClassVar = [
            # What waits for somebody.
            models.Index(fields=["-requested_at"], condition=Q(state="pending"), name="approval_pending"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(reason=""), name="approval_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="pending", decided_at=None, decided_by="")
                | (~Q(state="pending") & Q(decided_at__isnull=False) & ~Q(decided_by="")),
                name="approval_decided_iff_not_pending",
            ),
            # The four eyes themselves. Only the one who asked can withdraw.
            models.CheckConstraint(
                condition=~Q(state__in=["approved", "rejected"]) | ~SAME_PERSON,  # type: ignore[arg-type]  # it is one
                name="approval_needs_another_person",
            ),
        ]
        triggers: ClassVar = [
            FSM(
                name="approval_is_decided_once",
                field="state",
                transitions=[("pending", to) for to in ("approved", "rejected", "withdrawn")],
            ),
            Protect(name="approvals_are_kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.requested_by}: {self.state}"
