"""Charges at a gateway that no payment accounts for: review items for staff.

State is written by `payments.operations.unmatched_charges`, `payments.operations.refund_unmatched_charge` and
`payments.unmatched_charge_jobs`; a trigger refuses every other move.
"""

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Final

import pgtrigger
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core.triggers import FSM, Protect, ReadOnly


class State(models.TextChoices):
    """Where the review of an unmatched charge stands."""

    OPEN = "open"
    REFUNDING = "refunding"
    ADOPTED = "adopted"
    REFUNDED = "refunded"
    MATCHED = "matched"
    DISMISSED = "dismissed"


class Reason(models.TextChoices):
    """Why no payment accounts for the charge."""

    NO_PAYMENT = "no_payment"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    SECOND_CHARGE = "second_charge"
    PAYMENT_NOT_CHARGED = "payment_not_charged"


class Source(models.TextChoices):
    """How the charge came to our knowledge."""

    WEBHOOK = "webhook"
    RECONCILE = "reconcile"
    LOOK_UP = "look_up"


#: From each state, where a review may go. `refunding -> open` is a refund that the gateway refused.
LEGAL_MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.OPEN: frozenset({State.REFUNDING, State.ADOPTED, State.MATCHED, State.DISMISSED}),
    State.REFUNDING: frozenset({State.REFUNDED, State.OPEN}),
    State.ADOPTED: frozenset(),
    State.REFUNDED: frozenset(),
    State.MATCHED: frozenset(),
    State.DISMISSED: frozenset(),
}
#: Something is still to be done.
PENDING: Final = frozenset({State.OPEN, State.REFUNDING})
RESOLVED: Final = frozenset(State) - PENDING
#: What staff decided, with their name and reason.
DECIDED: Final = frozenset({State.REFUNDING, State.ADOPTED, State.REFUNDED, State.DISMISSED})
MOVES: Final = sorted((source.value, to.value) for source, moves in LEGAL_MOVES.items() for to in moves)


class UnmatchedCharge(models.Model):
    """A charge that the gateway made and that no payment accounts for; all facts are as the gateway states them."""

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=30)
    reference = models.CharField(max_length=255, help_text="The charge's id at the gateway.")
    gateway_key = models.CharField(max_length=255, blank=True, help_text="The idempotency key of the charge.")
    gateway_payment_id = models.CharField(max_length=255, blank=True, help_text="The payment id the gateway names.")
    merchant_slug = models.CharField(max_length=255, blank=True)
    order_id = models.CharField(max_length=255, blank=True)
    amount = models.BigIntegerField(help_text="Minor units.")
    currency = models.CharField(max_length=3)
    charged_at = models.DateTimeField(null=True, blank=True, help_text="By the gateway's clock.")
    reason = models.CharField(max_length=20, choices=Reason.choices)
    source = models.CharField(max_length=10, choices=Source.choices)

    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    payment = models.ForeignKey(
        "payments.Payment",
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        blank=True,
        db_index=False,
        help_text="The payment that accounts for the charge now.",
    )
    resolved_by = models.CharField(max_length=150, blank=True)
    resolution_reason = models.CharField(max_length=500, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    refund_number = models.PositiveIntegerField(default=1, help_text="The n of the refund's idempotency key.")
    refund_reference = models.CharField(max_length=255, blank=True, help_text="The refund's id at the gateway.")
    refund_attempts = models.PositiveIntegerField(default=0, help_text="Calls under the current key; fences them.")
    refund_sent_at = models.DateTimeField(null=True, blank=True, help_text="When the current key was first sent.")
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="When the refund may be called next.")
    stuck_check_at = models.DateTimeField(
        null=True, blank=True, help_text="When the refund is queued again, if nothing moved by then."
    )
    error_detail = models.CharField(max_length=500, blank=True, help_text="Why the last refund call failed.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        """Constraints and triggers."""

        default_permissions = ("view",)
        permissions: ClassVar = [
            ("adopt_unmatchedcharge", "Can create the payment of an unmatched charge"),
            ("refund_unmatchedcharge", "Can refund unmatched charges"),
            ("dismiss_unmatchedcharge", "Can dismiss unmatched charges"),
        ]
        indexes: ClassVar = [
            # The count in health and metrics, and the job that looks for their payments.
            models.Index(fields=["id"], name="unmatched_charge_pending", condition=Q(state__in=sorted(PENDING))),
            # The job that queues overdue refunds.
            models.Index(
                fields=["stuck_check_at"], name="unmatched_charge_stuck", condition=Q(stuck_check_at__isnull=False)
            ),
            # The job that looks for payments which got a charge after it was adopted or refunded.
            models.Index(
                fields=["resolved_at"],
                name="unmatched_charge_settled",
                condition=Q(state__in=[State.ADOPTED, State.REFUNDED]),
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["gateway", "reference"], name="one_review_per_charge"),
            models.CheckConstraint(condition=~Q(reference=""), name="unmatched_charge_has_reference"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="unmatched_charge_amount_positive"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="unmatched_charge_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=sorted(RESOLVED), resolved_at__isnull=False)
                | Q(state__in=sorted(PENDING), resolved_at__isnull=True),
                name="unmatched_charge_resolved_iff_final",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=sorted(DECIDED)) | (~Q(resolved_by="") & ~Q(resolution_reason="")),
                name="unmatched_charge_decided_by",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[State.ADOPTED, State.MATCHED]) | Q(payment__isnull=False),
                name="unmatched_charge_has_payment",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.REFUNDED) | ~Q(refund_reference=""), name="unmatched_charge_refund_proof"
            ),
            # No refund can get stuck: one that is under way has a time at which it is queued again.
            models.CheckConstraint(
                condition=Q(state=State.REFUNDING, stuck_check_at__isnull=False, next_attempt_at__isnull=False)
                | (~Q(state=State.REFUNDING) & Q(stuck_check_at__isnull=True, next_attempt_at__isnull=True)),
                name="unmatched_charge_refund_is_queued",
            ),
        ]
        triggers: ClassVar = [
            FSM(
                name="unmatched_charge_legal_moves",
                field="state",
                transitions=MOVES,
                condition=pgtrigger.Condition(
                    f"OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN ({', '.join(map(str, MOVES))})"
                ),
            ),
            ReadOnly(
                name="unmatched_charge_immutable",
                fields=[
                    *("gateway", "reference", "gateway_key", "gateway_payment_id", "merchant_slug", "order_id"),
                    *("amount", "currency", "charged_at", "reason", "source", "created_at"),
                ],
            ),
            Protect(name="unmatched_charges_are_kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.gateway} {self.reference}"

    @property
    def refund_key(self) -> str:
        """The idempotency key of the refund that is under way, or would be.

        It derives from the gateway's own id of the charge, not from this row's: a database that lost the row and finds
        the charge again refunds under the same key, and the gateway refunds once.
        """
        digest = hashlib.sha256(f"{self.gateway}:{self.reference}".encode()).hexdigest()
        return f"refund_{digest[:32]}:{self.refund_number}"


def count_open() -> int:
    """Return how many charges wait for a decision of staff."""
    return UnmatchedCharge.objects.filter(state=State.OPEN).count()
