"""Merchants, the people who work for them, and the keys their services call with."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q


class Mode(models.TextChoices):
    """Whether real money moves. Test objects and live objects never meet."""

    TEST = "test"
    LIVE = "live"


class Scope(models.TextChoices):
    """What a credential allows."""

    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    NOTIFICATIONS_READ = "notifications:read"
    NOTIFICATIONS_WRITE = "notifications:write"


class Role(models.TextChoices):
    """What a member of a merchant may do; each role includes the ones before it."""

    VIEWER = "viewer"
    SUPPORT = "support"
    OPERATOR = "operator"
    ADMIN = "admin"


class User(AbstractUser):
    """A person: a merchant's member, or platform staff when `is_staff` is set."""


class Merchant(models.Model):
    """A business that takes payments through us. Nobody sees another merchant's objects."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(unique=True, help_text="Short name, used in messages and at gateways.")
    name = models.CharField(max_length=200)
    currency = models.CharField(
        max_length=3,
        validators=[RegexValidator(r"^[A-Z]{3}$", "Three capital letters, as in ISO 4217.")],
        help_text="ISO 4217 code for payments that name none.",
    )
    language = models.CharField(
        max_length=10,
        choices=settings.LANGUAGES,
        default="en",
        db_default="en",
        help_text="In which its payers are written to, where nothing else is known of them.",
    )
    contact_email = models.EmailField(
        blank=True,
        default="",
        db_default="",
        help_text="Where we write to the merchant itself; empty: to its administrators.",
    )
    is_active = models.BooleanField(default=True, help_text="An inactive merchant's credentials are refused.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's role at one merchant."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "merchant"], name="one_role_per_merchant"),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.merchant}"


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

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"
