"""Merchants and the people who work for them."""

import uuid
from typing import ClassVar, Final
from zoneinfo import available_timezones

import pgtrigger
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import connection, models

from core.triggers import OwnerOnly
from merchants.ceilings import validate_ceilings


class Mode(models.TextChoices):
    """Whether real money moves. Test objects and live objects never meet."""

    TEST = "test"
    LIVE = "live"


class Role(models.TextChoices):
    """What a member of a merchant may do; each role includes the ones before it."""

    VIEWER = "viewer"
    SUPPORT = "support"
    OPERATOR = "operator"
    ADMIN = "admin"


class User(AbstractUser):
    """A person: a merchant's member, or platform staff when `is_staff` is set."""

    # Spelled out: a `Meta` of our own loses what AbstractUser's says.
    class Meta(AbstractUser.Meta):
        triggers: ClassVar = [
            # Only `createsuperuser`, which the owner of the tables runs: the console cannot.
            OwnerOnly(
                name="superusers_are_made_by_the_owner",
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("is_superuser"),  # type: ignore[no-untyped-call]
                condition=pgtrigger.Q(new__is_superuser=True),
            ),
        ]

    def clean(self) -> None:
        """The record, and what waits for a second person, know people by their names: a new name, a new person.

        Raises ValidationError.
        """
        super().clean()
        before = User.objects.filter(pk=self.pk).values_list("username", flat=True).first()
        if before not in {None, self.username}:
            raise ValidationError({"username": "A name stays. Deactivate this person, and add one with the new name."})


FIND_TIME_ZONE: Final = """
    SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %(name)s),
        EXISTS (SELECT FROM pg_timezone_abbrevs WHERE abbrev = upper(%(name)s))
"""


def validate_time_zone(name: str) -> None:
    """Refuse names that Python or PostgreSQL does not know, or that PostgreSQL reads as an abbreviation.

    Each has a list of its own, and Python's may hold `localtime`. An abbreviation such as CET is a fixed offset to
    PostgreSQL, in summer too, although a time zone of that name exists. UTC is both, and means the same.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIND_TIME_ZONE, {"name": name})
        is_known, is_abbreviation = cursor.fetchone()
    if not is_known or name not in available_timezones():
        raise ValidationError(f"{name[:64]} is no IANA time zone, such as UTC or Europe/Berlin.")
    if is_abbreviation and name != "UTC":
        raise ValidationError(f"{name} is an abbreviation. Name the region, such as Europe/Berlin, or UTC.")


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
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        db_default="UTC",
        validators=[validate_time_zone],
        help_text="In which its days begin and end, for analytics: an IANA name such as Europe/Berlin.",
    )
    contact_email = models.EmailField(
        blank=True,
        default="",
        db_default="",
        help_text="Where we write to the merchant itself; empty: to its administrators.",
    )
    creation_burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many payments it may ask for at once by the API; empty: as for everybody.",
    )
    creation_rate = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001)],
        help_text="How many payments a second it may ask for in the long run; empty: as for everybody.",
    )
    amount_ceilings = models.JSONField(
        default=dict,
        db_default=models.Value({}, output_field=models.JSONField()),
        blank=True,
        validators=[validate_ceilings],
        help_text='The highest amount of one payment, in major units by currency: {"EUR": "5000.00"}. '
        "A currency that is not named has none.",
    )
    declines_per_payer = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="After so many declines within an hour a payer is blocked for an hour; 0: never; empty: as for "
        "everybody.",
    )
    is_active = models.BooleanField(default=True, help_text="An inactive merchant's credentials are refused.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's role at one merchant."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships", db_index=False)
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "merchant"], name="one_role_per_merchant"),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.merchant}"
