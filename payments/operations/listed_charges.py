"""Reconciliation, from the gateway to us: which payment accounts for each charge of a page of the gateway's list."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from django.db import transaction

from messaging import outbox
from payments.gateways.base import ListedCharge
from payments.models import Payment, UnmatchedCharge
from payments.operations.unmatched_charges import ChargeFacts, difference_of, record_unmatched_charge
from payments.states import Status
from payments.unmatched_charge import Reason, Source, State


class DifferenceKind(StrEnum):
    """How the gateway's list and our payments differ."""

    NO_PAYMENT = "no_payment"
    AMOUNT_DIFFERS = "amount_differs"
    CURRENCY_DIFFERS = "currency_differs"
    SECOND_CHARGE = "second_charge"
    PAYMENT_NOT_CHARGED = "payment_not_charged"
    #: Two payments have the same charge as their proof.
    CHARGE_SHARED = "charge_shared"
    #: A payment has a charge that the gateway does not know.
    NOT_AT_GATEWAY = "not_at_gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference; `amount` is in minor units. Texts are empty where nothing is known."""

    kind: DifferenceKind
    reference: str
    payment_id: str
    amount: int
    currency: str
    detail: str = ""


@dataclass(slots=True)
class Tally:
    """What the charges of some pages came to."""

    charges: int = 0
    declined: int = 0
    matched: int = 0
    #: Their payments are still under way.
    in_flight: int = 0
    #: Charges without a payment that staff have refunded or dismissed.
    resolved: int = 0
    recorded: int = 0
    differences: list[Difference] = field(default_factory=list)


#: What staff have decided counts as no difference any more.
SETTLED: frozenset[str] = frozenset({State.REFUNDED, State.DISMISSED})


def compare_page(gateway: str, charges: Sequence[ListedCharge], tally: Tally) -> list[Difference]:
    """Compare one page, record charges without a payment, and return the differences; `tally` counts them.

    The page was read before the payments: a payment is committed before its charge is requested, so a charge without
    one is no charge under way.
    """
    approved = [charge for charge in charges if charge.approved]
    tally.charges += len(charges)
    tally.declined += len(charges) - len(approved)
    holders = _holders_of(gateway, [charge.reference for charge in approved])
    differences, unmatched = [], []
    for charge in approved:
        payments = [payment for payment in holders[charge.reference] if _has_terms(payment, charge)]
        if len(payments) > 1:
            ids = ", ".join(sorted(str(payment.pk) for payment in payments))
            differences.append(difference(charge, DifferenceKind.CHARGE_SHARED, detail=f"payments {ids}"))
        elif payments:
            tally.matched += 1
        else:
            unmatched.append(charge)
    differences += _compare_unmatched(gateway, unmatched, tally)
    tally.differences += differences
    return differences


def difference(charge: ListedCharge, kind: DifferenceKind, *, detail: str = "") -> Difference:
    """Return a difference about a listed charge."""
    return Difference(
        kind=kind,
        reference=charge.reference,
        payment_id=charge.payment_id,
        amount=charge.amount,
        currency=charge.currency,
        detail=detail,
    )


def _holders_of(gateway: str, references: Iterable[str]) -> Mapping[str, list[Payment]]:
    """Return the payments that have these charges as their proof."""
    found: dict[str, list[Payment]] = defaultdict(list)
    named = Payment.objects.filter(gateway=gateway, gateway_reference__in=list(references))
    for payment in named.exclude(gateway_reference=""):
        found[payment.gateway_reference].append(payment)
    return found


def _has_terms(payment: Payment, charge: ListedCharge) -> bool:
    return (payment.amount_captured, payment.currency) == (charge.amount, charge.currency)


@transaction.atomic(durable=True)
def _compare_unmatched(gateway: str, charges: Sequence[ListedCharge], tally: Tally) -> list[Difference]:
    """Return the differences of charges that no payment has as its proof."""
    if not charges:
        return []
    by_id = _payments_by_id(charge.payment_id for charge in charges)
    by_key = _payments_by_key(charge.key for charge in charges)
    settled = _settled(gateway, charges)
    differences, to_look_up = [], []
    for charge in charges:
        payment = by_id.get(charge.payment_id) or by_key.get(charge.key)
        reason = difference_of(facts_of(gateway, charge), payment)
        if reason is None:
            tally.in_flight += 1
            if payment is not None and payment.status == Status.UNKNOWN:
                to_look_up.append(payment)
        elif charge.reference in settled:
            tally.resolved += 1
        else:
            tally.recorded += _record(gateway, charge, reason)
            differences.append(difference(charge, DifferenceKind(reason.value)))
    messages = (({"ids": [str(payment.pk)]}, payment.request_id) for payment in to_look_up)
    outbox.stage_many("payment.look_up_due", messages)
    return differences


def _record(gateway: str, charge: ListedCharge, reason: Reason) -> bool:
    return record_unmatched_charge(facts_of(gateway, charge), reason=reason, source=Source.RECONCILE)


def _settled(gateway: str, charges: Iterable[ListedCharge]) -> set[str]:
    """Return the references of charges about which staff have decided."""
    references = [charge.reference for charge in charges]
    rows = UnmatchedCharge.objects.filter(gateway=gateway, reference__in=references, state__in=sorted(SETTLED))
    return set(rows.values_list("reference", flat=True))


def _payments_by_id(ids: Iterable[str]) -> dict[str, Payment]:
    """Return the payments of those ids that are ids."""
    known = {}
    for text in ids:
        try:
            known[UUID(text)] = text
        except ValueError:
            continue
    return {known[payment.pk]: payment for payment in Payment.objects.filter(pk__in=known)}


def _payments_by_key(keys: Iterable[str]) -> dict[str, Payment]:
    """Return the payments under way with those gateway keys: a client's retry of a request that was forgotten.

    By the index of what is in work; finished ones are found by their charge.
    """
    bases = {key.rpartition(":charge:")[0] for key in keys} - {""}
    payments = Payment.objects.filter(revive_at__isnull=False, gateway_key_base__in=bases)
    return {payment.gateway_key: payment for payment in payments}


def facts_of(gateway: str, charge: ListedCharge) -> ChargeFacts:
    """Return what the gateway states about a listed charge."""
    return ChargeFacts(
        gateway=gateway,
        reference=charge.reference,
        amount=charge.amount,
        currency=charge.currency,
        gateway_key=charge.key,
        gateway_payment_id=charge.payment_id,
        merchant_slug=charge.merchant,
        order_id=charge.order_id,
        charged_at=charge.charged_at,
    )
