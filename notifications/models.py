"""The tables of who is told: webhook endpoints, contacts and preferences, and each delivery with its attempts.

Nothing here refers to a payment by a foreign key: not even a lock of ours can reach one.
"""

from typing import ClassVar, Final

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core.triggers import Protect
from merchants.models import Merchant, Mode
from payments.ids import uuid7

#: The longest address that a webhook may have; a payment's `webhook_url` has the same limit.
MAX_URL: Final = 500


class Channel(models.TextChoices):
    """The ways in which somebody is told."""

    EMAIL = "email"
    SMS = "sms", "SMS"
    WEBHOOK = "webhook"


class Audience(models.TextChoices):
    """Who is told by mail or SMS: whoever pays, or the merchant's own people."""

    PAYER = "payer"
    MERCHANT = "merchant"


class WebhookEndpoint(models.Model):
    """An address of a merchant's that is called, signed, when something happens."""

    class Kind(models.TextChoices):
        """`registered`: told of all events that it wants. `payment`: the origin of `webhook_url`s, told of theirs."""

        REGISTERED = "registered"
        PAYMENT = "payment"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="webhook_endpoints")
    mode = models.CharField(max_length=4, choices=Mode.choices)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.REGISTERED)
    url = models.CharField(max_length=MAX_URL, help_text="Of the kind `payment` the origin only: https://host.")
    description = models.CharField(max_length=200, blank=True)
    event_types = ArrayField(
        models.CharField(max_length=50), default=list, blank=True, help_text="Which events it wants; empty: all."
    )
    secret = models.TextField(editable=False, help_text="Encrypted; see `notifications.vault`.")
    previous_secret = models.TextField(blank=True, editable=False)
    previous_secret_until = models.DateTimeField(
        null=True, blank=True, help_text="Until then what is sent is signed with the previous secret as well."
    )
    enabled = models.BooleanField(default=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    failing_since = models.DateTimeField(
        null=True, blank=True, help_text="The first failure since the last success; empty while all is well."
    )
    warned_at = models.DateTimeField(
        null=True, blank=True, help_text="When the merchant was told that it fails; once per outage."
    )
    last_success_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Its deliveries stay, as the record.")

    class Meta:
        permissions: ClassVar = [("manage_webhookendpoint", "Can create and change webhook endpoints")]
        constraints: ClassVar = [
            # Also the fan-out's question: which endpoints has this merchant?
            models.UniqueConstraint(
                fields=["merchant", "mode", "kind", "url"],
                condition=Q(deleted_at__isnull=True),
                name="one_endpoint_per_url",
            ),
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="endpoint_mode_known"),
            models.CheckConstraint(condition=Q(kind__in=["registered", "payment"]), name="endpoint_kind_known"),
            models.CheckConstraint(
                condition=Q(enabled=True, disabled_at__isnull=True) | Q(enabled=False, disabled_at__isnull=False),
                name="endpoint_disabled_iff_dated",
            ),
            models.CheckConstraint(
                # Pairs: bandit would take keywords of this name for passwords in the code.
                condition=Q(("previous_secret", ""), previous_secret_until__isnull=True)
                | (~Q(("previous_secret", "")) & Q(previous_secret_until__isnull=False)),
                name="endpoint_previous_secret_ends",
            ),
        ]

    def __str__(self) -> str:
        return self.url


class Contact(models.Model):
    """How a payer is reached: the merchant's `user_id` and the addresses behind it."""

    id = models.BigAutoField(primary_key=True)
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="contacts", db_index=False)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    user_id = models.CharField(max_length=255, help_text="The payer, in the merchant's own system.")
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=16, blank=True, help_text="E.164, such as +4915123456789.")
    language = models.CharField(max_length=10, blank=True, help_text="Empty: the merchant's.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["merchant", "mode", "user_id"], name="one_contact_per_user"),
        ]

    def __str__(self) -> str:
        return self.user_id


class Preference(models.Model):
    """What a merchant has decided of one channel and audience: which events, and for its own people which addresses.

    Where there is no row, the defaults of `notifications.preferences` hold.
    """

    id = models.BigAutoField(primary_key=True)
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="preferences", db_index=False)
    channel = models.CharField(max_length=7, choices=[(it.value, it.label) for it in (Channel.EMAIL, Channel.SMS)])
    audience = models.CharField(max_length=8, choices=Audience.choices)
    event_types = ArrayField(models.CharField(max_length=50), default=list, blank=True, help_text="Empty: none.")
    addresses = ArrayField(
        models.CharField(max_length=254), default=list, blank=True, help_text="For the merchant's own people only."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["merchant", "channel", "audience"], name="one_preference_each"),
            models.CheckConstraint(
                condition=Q(audience="merchant") | Q(addresses=[]), name="preference_payers_have_their_own_addresses"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.channel} to {self.audience}"


class Delivery(models.Model):
    """One event on its way to one recipient by one channel. The unique index makes it one, however often it is told.

    `pending` until somebody has taken it, nobody will any more (`failed`, with a dead letter), or its endpoint was
    disabled (`canceled`). A redelivery makes it `pending` again.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"
        CANCELED = "canceled"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    event_id = models.UUIDField(help_text="The event's id, and what receivers see as `webhook-id`.")
    event_type = models.CharField(max_length=50)
    payment_id = models.UUIDField(null=True, blank=True)
    channel = models.CharField(max_length=7, choices=Channel.choices)
    audience = models.CharField(max_length=8, choices=Audience.choices, default=Audience.MERCHANT)
    recipient = models.CharField(max_length=MAX_URL, help_text="A mail address, a phone number or a URL.")
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.PROTECT, null=True, blank=True, related_name="deliveries", db_index=False
    )
    language = models.CharField(max_length=10, blank=True)
    data = models.JSONField(null=True, blank=True, help_text="What is told, where it is of no payment's event.")
    occurred_at = models.DateTimeField(help_text="When what is told of happened.")

    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    fence = models.PositiveIntegerField(default=0, help_text="Grows with every claim, and numbers the attempts.")
    tries = models.PositiveSmallIntegerField(default=0, help_text="Attempts since it was last begun anew.")
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True, help_text="Until then one worker is sending it.")
    revive_at = models.DateTimeField(
        null=True, blank=True, help_text="When the rescue stages it again, if nothing moved by then."
    )
    note = models.CharField(max_length=500, blank=True, help_text="What the last attempt met, in words.")
    reference = models.CharField(max_length=255, blank=True, help_text="The provider's id of what it took.")
    request_id = models.CharField(max_length=128, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        permissions: ClassVar = [("redeliver_delivery", "Can deliver again what was delivered or has failed")]
        indexes: ClassVar = [
            # The rescue's poll; only what is under way is in it.
            models.Index(fields=["revive_at"], name="delivery_revive", condition=Q(revive_at__isnull=False)),
            # What waits for an endpoint, in its order.
            models.Index(
                fields=["endpoint", "next_attempt_at", "id"],
                name="delivery_waiting",
                condition=Q(state="pending", endpoint__isnull=False),
            ),
            # How many calls to an endpoint are under way, however many wait.
            models.Index(
                fields=["endpoint"],
                name="delivery_in_hand",
                condition=Q(lease_expires_at__isnull=False, endpoint__isnull=False),
            ),
            # An endpoint's deliveries, newest first, and `redeliver since`.
            models.Index(fields=["endpoint", "-id"], name="delivery_by_endpoint"),
            # A merchant's deliveries, newest first.
            models.Index(fields=["merchant", "mode", "-id"], name="delivery_newest"),
            # One payment's page.
            models.Index(fields=["payment_id"], name="delivery_by_payment", condition=Q(payment_id__isnull=False)),
            # Pruning. No BRIN: what is pruned makes room for new rows, and soon old and new lie among each other.
            models.Index(fields=["created_at"], name="delivery_made"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event_id", "channel", "recipient"], name="one_delivery_per_recipient"),
            models.CheckConstraint(condition=Q(channel__in=Channel.values), name="delivery_channel_known"),
            models.CheckConstraint(
                condition=Q(channel="webhook", endpoint__isnull=False)
                | (~Q(channel="webhook") & Q(endpoint__isnull=True)),
                name="delivery_webhooks_have_endpoints",
            ),
            models.CheckConstraint(
                condition=Q(state="pending", revive_at__isnull=False, finished_at__isnull=True)
                | Q(
                    state__in=["delivered", "failed", "canceled"],
                    revive_at__isnull=True,
                    next_attempt_at__isnull=True,
                    lease_expires_at__isnull=True,
                    finished_at__isnull=False,
                ),
                name="delivery_pending_is_rescued",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} by {self.channel}"


class DeliveryAttempt(models.Model):
    """One try, and what came back."""

    class Outcome(models.TextChoices):
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveIntegerField(help_text="The delivery's fence at its claim.")
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    excerpt = models.TextField(blank=True, help_text="The beginning of the answer, redacted.")
    latency_ms = models.PositiveIntegerField()
    finished_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["delivery", "number"], name="one_attempt_per_claim"),
        ]
        triggers: ClassVar = [Protect(name="tries_are_kept", operation=pgtrigger.Update)]

    def __str__(self) -> str:
        return f"{self.number}: {self.outcome}"
