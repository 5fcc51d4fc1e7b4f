"""Charges that no payment accounts for are recorded for review by staff.

A gateway that names one of our charges is proof that money moved. Where no payment accounts for it, a database has
forgotten an accepted payment, or our books or the gateway's are wrong.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

import structlog
from django.db import connection

from merchants.characters import normalize_identifier
from payments.models import Payment, UnmatchedCharge
from payments.states import Status
from payments.unmatched_charge import Reason, Source

log = structlog.get_logger(__name__)

#: The largest amount that a column holds.
MAX_AMOUNT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeFacts:
    """What a gateway states about one approved charge; `amount` is in minor units. Texts may be empty."""

    gateway: str
    reference: str
    amount: int
    currency: str
    gateway_key: str = ""
    gateway_payment_id: str = ""
    merchant_slug: str = ""
    order_id: str = ""
    charged_at: datetime | None = None


def difference_of(facts: ChargeFacts, payment: Payment | None) -> Reason | None:
    """Return why a payment does not account for a charge; None if it does, or will by itself.

    A payment under way with these terms will: its own call, look-up or webhook brings the proof.
    """
    if payment is None or payment.gateway != facts.gateway:
        return Reason.NO_PAYMENT
    if payment.currency != facts.currency:
        return Reason.CURRENCY_DIFFERS
    if payment.amount != facts.amount:
        return Reason.AMOUNT_DIFFERS
    if payment.amount_captured:
        return None if payment.gateway_reference == facts.reference else Reason.SECOND_CHARGE
    return Reason.PAYMENT_NOT_CHARGED if payment.status in {Status.FAILED, Status.CANCELED} else None


def second_charge_of(payment: Payment, reference: str) -> ChargeFacts:
    """Return what is known of a charge that the gateway made for a payment beside the one that it has."""
    return ChargeFacts(
        gateway=payment.gateway,
        reference=reference,
        amount=payment.amount,
        currency=payment.currency,
        gateway_key=payment.gateway_key,
        gateway_payment_id=str(payment.pk),
        merchant_slug=payment.merchant.slug,
        order_id=payment.order_id,
    )


def payment_with_charge(gateway: str, reference: str) -> Payment | None:
    """Return a payment that has this charge as its proof."""
    found = Payment.objects.filter(gateway_reference=reference, gateway=gateway).exclude(gateway_reference="")
    return found.order_by("id").first() if reference else None


def record_unmatched_charge(facts: ChargeFacts, *, reason: Reason, source: Source) -> bool:
    """Record a charge for review, in the caller's transaction; False if it is recorded already.

    A charge is recorded once: a repeated or late webhook does not open a resolved one again.
    """
    assert connection.in_atomic_block, "a finding is committed with what led to it"
    if not (0 < facts.amount <= MAX_AMOUNT and facts.reference and len(facts.currency) == 3):
        log.error("unmatched_charge_unreadable", gateway=facts.gateway, reference=facts.reference)
        return False
    # The order is compared with payments' orders, which are in NFC.
    order_id = normalize_identifier(facts.order_id)
    stated = {**asdict(facts), "order_id": order_id, "reason": reason, "source": source}
    _, is_new = UnmatchedCharge.objects.get_or_create(
        gateway=stated.pop("gateway"), reference=stated.pop("reference"), defaults=stated
    )
    if is_new:
        log.error(
            "unmatched_charge",
            gateway=facts.gateway,
            reference=facts.reference,
            reason=reason.value,
            source=source.value,
            payment_id=facts.gateway_payment_id,
        )
    return is_new


def record_unless_matched(
    facts: ChargeFacts, payment: Payment | None, *, source: Source, default: Reason = Reason.NO_PAYMENT
) -> bool:
    """Record a charge unless a payment has it as its proof. `payment` is the one that the gateway names, if any."""
    holder = payment_with_charge(facts.gateway, facts.reference)
    if holder is not None and (holder.amount, holder.currency) == (facts.amount, facts.currency):
        return False
    reason = difference_of(facts, payment or holder) or default
    return record_unmatched_charge(facts, reason=reason, source=source)
