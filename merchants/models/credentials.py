"""What callers show: the keys of services, and the sessions that people log in to at the API."""

import uuid
from typing import ClassVar

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core.triggers import Protect
from merchants.models.people import Merchant, Mode, User


class Scope(models.TextChoices):
    """What a credential allows."""

    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    NOTIFICATIONS_READ = "notifications:read"
    NOTIFICATIONS_WRITE = "notifications:write"
    ANALYTICS_READ = "analytics:read"


class ApiKey(models.Model):
    """A service's credential. Only its SHA-256 is kept: the key itself is 256 random bits, so no salt is needed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    prefix = models.CharField(max_length=16, help_text="The key's beginning, to tell keys apart.")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=30, choices=Scope.choices))
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")

    class Meta:
        verbose_name = "API key"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="api_key_mode_known"),
        ]
        triggers: ClassVar = [
            Protect(
                name="revoked_key_stays_revoked",
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class LoginSession(models.Model):
    """A person's login at the API: the family of all refresh tokens that go back to one password.

    Only the newest of them works, `current`. An older one that comes again was stolen, or its thief was faster: the
    session ends for both (RFC 9700, section 4.14.2).
    """

    class End(models.TextChoices):
        LOGOUT = "logout"
        REUSED = "reused", "an old refresh token was used again"
        CHANGED = "changed", "the password was changed, or its person deactivated"
        REVOKED = "revoked", "staff ended it"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_sessions")
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="+")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    current = models.UUIDField(help_text="The `jti` of the refresh token that works.")
    second_factor = models.BooleanField(default=False, help_text="It began with a one-time password as well.")
    password_stamp = models.CharField(max_length=64, help_text="Changes with the password; never the password's hash.")
    address = models.GenericIPAddressField(null=True, blank=True, help_text="Where it began.")
    created_at = models.DateTimeField(db_default=Now())
    refreshed_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    end = models.CharField(max_length=10, choices=End.choices, blank=True)

    class Meta:
        indexes: ClassVar = [
            # A person's open sessions, to list and to end them.
            models.Index(fields=["user"], condition=Q(ended_at=None), name="login_session_open"),
            # Pruning.
            models.Index(fields=["expires_at"], name="login_session_expiry"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(ended_at=None, end="") | (Q(ended_at__isnull=False) & ~Q(end="")),
                name="login_session_ended_with_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.merchant}, {self.mode}"
