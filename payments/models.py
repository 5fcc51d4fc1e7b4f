"""The tables of the money. What must never be false stands here as a constraint or a trigger, first of all.

Status is written by `payments.transitions` alone.
"""

from typing import ClassVar, Final

import pgtrigger
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core.triggers import FSM, OwnerOnly, Protect, ReadOnly
from merchants.models import Merchant, Mode
from payments.ids import uuid7
from payments.states import FINAL, HOLDING, IN_WORK, LEGAL_MOVES, AttemptKind, Outcome, Status
from payments.unmatched_charge import UnmatchedCharge

__all__ = [
    "Attempt",
    "DeclineBlock",
    "GatewayCircuit",
    "GatewayEvent",
    "IdempotencyKey",
    "Payment",
    "PaymentEvent",
    "UnmatchedCharge",
]

MOVES: Final = sorted((source.value, to.value) for source, moves in LEGAL_MOVES.items() for to in moves)


class Payment(models.Model):
    """One wish to be paid. Amounts are integers in minor units of the currency."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own, here and below: another one begins with the same column.
    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="payments", db_index=False)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    version = models.PositiveIntegerField(default=1, help_text="Grows with every event; orders them.")

    amount = models.BigIntegerField(help_text="Minor units.")
    currency = models.CharField(max_length=3)
    amount_captured = models.BigIntegerField(default=0)
    amount_refunded = models.BigIntegerField(default=0)
    order_id = models.CharField(max_length=255, blank=True)
    user_id = models.CharField(max_length=255, blank=True, help_text="The payer, in the merchant's own system.")
    description = models.CharField(max_length=1000, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    payment_method = models.CharField(max_length=255, help_text="The gateway's token; never a card number.")
    webhook_url = models.URLField(max_length=500, blank=True)
    receipt_email = models.EmailField(
        blank=True, default="", db_default="", help_text="Where the payer is told by mail."
    )
    receipt_phone = models.CharField(
        max_length=16, blank=True, default="", db_default="", help_text="Where the payer is told by SMS; E.164."
    )
    request_id = models.CharField(max_length=128, blank=True)

    gateway = models.CharField(max_length=30)
    gateway_reference = models.CharField(max_length=255, blank=True, help_text="The charge's id at the gateway.")
    gateway_key_base = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="What the gateway's idempotency keys begin with: derived from merchant, mode and the client's key.",
    )
    key_number = models.PositiveIntegerField(default=1, help_text="The n of the gateway's idempotency key.")
    holds_order = models.BooleanField(default=True, help_text="No other payment of its order may be made.")
    needs_review = models.BooleanField(default=False)

    fence = models.PositiveIntegerField(
        default=0, help_text="Grows with every claim; an answer that carries an older one comes too late."
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True, help_text="Until then one worker holds it.")
    charge_attempts = models.PositiveIntegerField(default=0, help_text="Charges sent to the gateway, or about to be.")
    retries = models.PositiveIntegerField(default=0, help_text="Answers that proved nothing was taken.")
    lookups = models.PositiveIntegerField(default=0, help_text="Look-ups that proved nothing.")
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    revive_at = models.DateTimeField(
        null=True, blank=True, help_text="When the rescue stages it again, if nothing moved by then."
    )
    revivals = models.PositiveIntegerField(default=0)
    held_since = models.DateTimeField(
        null=True, blank=True, help_text="Its gateway is paused or its breaker open; released when calls flow again."
    )
    look_up_first = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It was sent back by people: what the gateway knows of its key is asked before anything is charged.",
    )
    charge_before = models.DateTimeField(
        null=True, blank=True, help_text="No charge is begun from then on: its payer would be surprised."
    )

    error_code = models.CharField(max_length=50, blank=True)
    decline_code = models.CharField(max_length=50, blank=True)
    error_detail = models.CharField(max_length=500, blank=True)

    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        permissions: ClassVar = [("retry_payment", "Can have a waiting payment taken up now")]
        indexes: ClassVar = [
            # GET /payments: one merchant's, newest first; ids are time-ordered.
            models.Index(fields=["merchant", "mode", "-id"], name="payment_newest"),
            # GET /payments?user_id=
            models.Index(
                fields=["merchant", "mode", "user_id", "-id"], name="payment_by_user", condition=~Q(user_id="")
            ),
            # GET /payments?order_id=, and the holder of an order after a conflict.
            models.Index(
                fields=["merchant", "mode", "order_id", "-id"], name="payment_by_order", condition=~Q(order_id="")
            ),
            # The rescue's poll. Only what is in work is in the index, so it stays small at any age of the table.
            models.Index(fields=["revive_at"], name="payment_revive", condition=Q(revive_at__isnull=False)),
            # The release of what waited for a gateway, in its order. Empty while all gateways work.
            models.Index(
                fields=["gateway", "charge_attempts", "held_since"],
                name="payment_held",
                condition=Q(held_since__isnull=False),
            ),
            # The daily metrics: the payments of some days. No BRIN: vacuum lets new rows lie among old ones.
            models.Index(fields=["created_at"], name="payment_age"),
            # What was given back of the payments of some days, by the same. A refund alone ever writes it.
            models.Index(fields=["created_at"], name="payment_refunded", condition=Q(amount_refunded__gt=0)),
            # How often a payer's, and a merchant's, payments were declined of late (`payments.velocity`).
            models.Index(
                fields=["merchant", "mode", "user_id", "finished_at"],
                name="payment_declined_payer",
                condition=Q(error_code="declined") & ~Q(user_id=""),
            ),
            models.Index(
                fields=["merchant", "mode", "finished_at"],
                name="payment_declined",
                condition=Q(error_code="declined"),
            ),
            # The payment that a gateway's charge belongs to: webhooks of charges whose payment id is unknown,
            # reconciliation, and staff who search for a charge.
            models.Index(fields=["gateway_reference"], name="payment_by_charge", condition=~Q(gateway_reference="")),
            # The count of unknown payments in health and metrics.
            models.Index(fields=["id"], name="payment_unknown", condition=Q(status=Status.UNKNOWN)),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["merchant", "mode", "order_id"],
                condition=Q(holds_order=True) & ~Q(order_id=""),
                name="one_payment_holds_an_order",
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="payment_status_known"),
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="payment_mode_known"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="payment_amount_positive"),
            models.CheckConstraint(
                condition=Q(amount_captured__gte=0, amount_captured__lte=models.F("amount")),
                name="payment_captured_within_amount",
            ),
            models.CheckConstraint(
                condition=Q(amount_refunded__gte=0, amount_refunded__lte=models.F("amount_captured")),
                name="payment_refunded_within_captured",
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.SUCCEEDED) | Q(amount_captured__gt=0), name="payment_succeeded_has_captured"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=sorted(HOLDING)) | Q(holds_order=True), name="payment_holds_its_order"
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(FINAL), finished_at__isnull=False)
                | (~Q(status__in=sorted(FINAL)) & Q(finished_at__isnull=True)),
                name="payment_finished_iff_final",
            ),
            # Nothing can get stuck: what is in work has a time at which the rescue looks at it, and an unknown
            # outcome is looked up again until people are asked.
            models.CheckConstraint(
                condition=~Q(status__in=sorted(IN_WORK)) | Q(revive_at__isnull=False), name="payment_in_work_is_rescued"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.UNKNOWN) | Q(revive_at__isnull=False) | Q(needs_review=True),
                name="payment_unknown_is_looked_up",
            ),
            models.CheckConstraint(
                condition=Q(lease_expires_at__isnull=True)
                | Q(status__in=[Status.PROCESSING, Status.UNKNOWN, Status.AUTHORIZED]),
                name="payment_lease_only_in_work",
            ),
            models.CheckConstraint(
                condition=Q(held_since__isnull=True)
                | Q(status__in=[Status.PROCESSING, Status.UNKNOWN], lease_expires_at__isnull=True),
                name="payment_held_between_calls",
            ),
        ]
        triggers: ClassVar = [
            FSM(
                name="legal_moves",
                field="status",
                transitions=MOVES,
                # What it finds as well, but PostgreSQL itself before it calls the trigger, in a tenth of the time.
                condition=pgtrigger.Condition(
                    f"OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN ({', '.join(map(str, MOVES))})"
                ),
            ),
            Protect(
                name="fence_never_falls",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(new__fence__lt=pgtrigger.F("old__fence")),
            ),
            ReadOnly(
                name="what_was_asked_stays",
                fields=["id", "merchant", "mode", "amount", "currency", "order_id", "created_at"],
            ),
            Protect(name="payments_are_kept", operation=pgtrigger.Delete),
            # No process creates a payment that is paid already. The owner does, for the demo.
            OwnerOnly(
                name="payments_begin_pending",
                operation=pgtrigger.Insert,
                condition=pgtrigger.Condition(
                    "NEW.status <> 'pending' OR NEW.amount_captured <> 0 OR NEW.amount_refunded <> 0 OR NEW.fence <> 0"
                ),
            ),
            Protect(
                name="recorded_charge_is_kept",
                operation=pgtrigger.Update,
                # As text: pgtrigger would compare with null in mind, and these columns have none.
                condition=pgtrigger.Condition(
                    "OLD.amount_captured > 0 AND (NEW.amount_captured < OLD.amount_captured"
                    " OR NEW.gateway_reference <> OLD.gateway_reference OR NEW.key_number <> OLD.key_number)"
                ),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def gateway_key(self) -> str:
        """The idempotency key that the gateway sees; the same for every call about one charge.

        Payments that were accepted before keys were derived from requests have no base: theirs begin with the id.
        """
        return f"{self.gateway_key_base or self.pk}:charge:{self.key_number}"


class Attempt(models.Model):
    """One call to the gateway, written before a byte is sent and completed with whatever came back."""

    id = models.BigAutoField(primary_key=True)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    kind = models.CharField(max_length=10, choices=AttemptKind.choices)
    gateway_key = models.CharField(max_length=100, help_text="The idempotency key the gateway sees.")
    fence = models.PositiveIntegerField()
    outcome = models.CharField(max_length=12, choices=Outcome.choices, blank=True)
    code = models.CharField(max_length=50, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    gateway_reference = models.CharField(max_length=255, blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes: ClassVar = [
            # What the breaker counts when a call has failed: the answers that came last.
            models.Index(
                fields=["finished_at"],
                name="attempt_answered",
                condition=~Q(outcome__in=["", Outcome.ABANDONED]),
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["payment"], condition=Q(finished_at__isnull=True), name="one_unfinished_attempt"
            ),
            models.UniqueConstraint(fields=["payment", "fence"], name="one_attempt_per_fence"),
            models.CheckConstraint(
                condition=Q(outcome="", finished_at__isnull=True) | (~Q(outcome="") & Q(finished_at__isnull=False)),
                name="attempt_finished_iff_outcome",
            ),
        ]
        triggers: ClassVar = [
            Protect(name="attempts_are_kept", operation=pgtrigger.Delete),
            # An answer that comes after its attempt was given up completes it; no answer replaces another.
            Protect(
                name="recorded_answer_is_kept",
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    f"OLD.outcome NOT IN ('', '{Outcome.ABANDONED.value}') AND (NEW.outcome <> OLD.outcome"
                    " OR NEW.code <> OLD.code OR NEW.gateway_reference <> OLD.gateway_reference)"
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.gateway_key} {self.outcome or 'in flight'}"


class PaymentEvent(models.Model):
    """What happened to a payment, with the payment as it was right after. Append-only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events", db_index=False)
    # The payment's own, here as well for the list of all of a merchant's events. The payment's foreign key vouches
    # for the merchant.
    merchant = models.ForeignKey(
        Merchant, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    mode = models.CharField(max_length=4, choices=Mode.choices)
    type = models.CharField(max_length=50)
    version = models.PositiveIntegerField(help_text="The payment's version that this event made.")
    snapshot = models.JSONField()
    request_id = models.CharField(max_length=128, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # GET /events: one merchant's, newest first; ids are time-ordered.
            models.Index(fields=["merchant", "mode", "-id"], name="event_newest"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["payment", "version"], name="one_event_per_version"),
        ]
        triggers: ClassVar = [
            Protect(name="events_are_kept", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.payment_id}"


class IdempotencyKey(models.Model):
    """A request that was carried out, and its answer, byte for byte, for whoever asks again."""

    id = models.BigAutoField(primary_key=True)
    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    status_code = models.PositiveSmallIntegerField()
    body = models.TextField()
    location = models.CharField(max_length=255)
    payment = models.ForeignKey(
        Payment,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="idempotency_keys",
        help_text="The payment that the request made, if it made one.",
    )
    replays = models.PositiveIntegerField(db_default=0, help_text="How many duplicates of the request it has absorbed.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            # Pruning. No BRIN: what is pruned makes room for new rows, and soon old and new lie among each other.
            models.Index(fields=["created_at"], name="idempotency_key_stored"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["merchant", "key"], name="one_request_per_idempotency_key"),
        ]
        triggers: ClassVar = [
            # A key may be claimed before its answer is known; the answer is stored once.
            Protect(
                name="stored_answer_is_kept",
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "NEW.fingerprint <> OLD.fingerprint OR (OLD.body <> '' AND (NEW.body <> OLD.body"
                    " OR NEW.status_code <> OLD.status_code OR NEW.location <> OLD.location))"
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.key


class GatewayCircuit(models.Model):
    """Whether calls to a gateway are let through. A gateway that never was in trouble has no row."""

    gateway = models.CharField(max_length=30, primary_key=True)
    open_until = models.DateTimeField(
        null=True, blank=True, help_text="The breaker is open: no call before it, then one probe at a time."
    )
    openings = models.PositiveIntegerField(default=0, help_text="Openings in a row; each lasts longer.")
    probing_until = models.DateTimeField(null=True, blank=True, help_text="The lease of the probe under way.")
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the breaker last closed; earlier failures do not count."
    )
    paused_at = models.DateTimeField(null=True, blank=True, help_text="People have stopped all calls.")
    pause_reason = models.CharField(max_length=200, blank=True)
    paused_by = models.CharField(max_length=150, blank=True)

    class Meta:
        verbose_name = "gateway"
        permissions: ClassVar = [("pause_gateway", "Can pause and resume gateways")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(paused_at__isnull=True) | ~Q(pause_reason=""), name="circuit_pause_has_a_reason"
            ),
            models.CheckConstraint(
                condition=Q(probing_until__isnull=True) | Q(open_until__isnull=False), name="circuit_probes_while_open"
            ),
        ]

    def __str__(self) -> str:
        return self.gateway


class GatewayEvent(models.Model):
    """What a gateway told us by itself, stored before anything is made of it: the inbox."""

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=30)
    event_id = models.CharField(max_length=255, help_text="The gateway's own id; it may tell the same twice.")
    type = models.CharField(max_length=100)
    body = models.JSONField()
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="gateway_events", null=True, blank=True)
    result = models.CharField(max_length=50, blank=True, help_text="What it led to; empty until it is handled.")
    received_at = models.DateTimeField(db_default=Now())
    handled_at = models.DateTimeField(null=True, blank=True)
    revive_at = models.DateTimeField(
        null=True, blank=True, help_text="When the rescue stages it again, if it is not handled by then."
    )

    class Meta:
        indexes: ClassVar = [
            # The rescue's poll.
            models.Index(fields=["revive_at"], name="gateway_event_revive", condition=Q(revive_at__isnull=False)),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gateway", "event_id"], name="one_row_per_gateway_event"),
            models.CheckConstraint(
                condition=Q(handled_at__isnull=True, result="", revive_at__isnull=False)
                | (Q(handled_at__isnull=False, revive_at__isnull=True) & ~Q(result="")),
                name="gateway_event_handled_or_rescued",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"


class DeclineBlock(models.Model):
    """A payer, or a whole merchant, whose payments were declined so often that somebody may be testing stolen cards.

    Until it ends, or staff lift it, no payment of theirs is accepted.
    """

    id = models.BigAutoField(primary_key=True)
    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="+", db_index=False)
    mode = models.CharField(max_length=4, choices=Mode.choices)
    user_id = models.CharField(max_length=255, blank=True, help_text="The payer; empty: the whole merchant.")
    declines = models.PositiveIntegerField(help_text="How many there were when it began.")
    began_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True, help_text="By staff; earlier declines count no more.")
    lifted_by = models.CharField(max_length=150, blank=True)
    lift_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        default_permissions = ("view",)
        permissions: ClassVar = [("lift_declineblock", "Can lift blocks after many declines")]
        indexes: ClassVar = [
            # What is in force; every process keeps a copy of it for a moment.
            models.Index(fields=["ends_at"], name="decline_block_ends", condition=Q(lifted_at=None)),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["merchant", "mode", "user_id"], name="one_block_per_payer"),
            models.CheckConstraint(condition=Q(mode__in=Mode.values), name="decline_block_mode_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id or 'all payers'} of {self.merchant}"
