"""Charges at the sandbox gateway that no payment accounts for, for tests of what becomes of them."""

from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from merchants.audit import Who
from merchants.models import AuditEntry, Merchant
from payments.ids import uuid7
from payments.models import Payment, UnmatchedCharge
from payments.operations.unmatched_charges import ChargeFacts, record_unmatched_charge
from payments.unmatched_charge import Reason, Source
from sandbox.journal import Entry
from tests.conftest import SandboxHandle

ADA = Who("user:ada", AuditEntry.Via.CONSOLE)


def charge_at(sandbox: SandboxHandle, *, key: str = "", decline_code: str | None = None, **changes: Any) -> Any:
    """Let the gateway decide about a charge of a payment that our database has never seen; return its entry."""
    terms = {"payment_id": str(uuid7()), "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}
    charge = {**terms, **changes}
    key = key or f"pay_{charge['payment_id']}:charge:1"
    return sandbox.server.journal.decide(key=key, charge=charge, decline_code=decline_code)[0]


def entry_of(merchant: Merchant) -> Entry:
    """Return a charge of a merchant as a gateway's journal has it, without a gateway."""
    payment_id = uuid7()
    return Entry(
        seq=1,
        operation="charge",
        idempotency_key=f"pay_{payment_id}:charge:1",
        payment_id=str(payment_id),
        merchant=merchant.slug,
        order_id=None,
        amount=1000,
        currency="EUR",
        outcome="approved",
        reference=f"ch_{payment_id}",
        decline_code=None,
    )


def record(entry: Any, *, reason: Reason = Reason.NO_PAYMENT) -> UnmatchedCharge:
    """Record the review of a charge."""
    facts = ChargeFacts(
        gateway="sandbox",
        reference=entry.reference,
        amount=entry.amount,
        currency=entry.currency,
        gateway_key=entry.idempotency_key,
        gateway_payment_id=entry.payment_id,
        merchant_slug=entry.merchant,
        order_id=entry.order_id or "",
        charged_at=timezone.now(),
    )
    with transaction.atomic():
        record_unmatched_charge(facts, reason=reason, source=Source.WEBHOOK)
    return UnmatchedCharge.objects.get(reference=entry.reference)


def forget(payment: Payment) -> None:
    """Lose the commit that accepted a payment, as a failover to a replica that did not have it."""
    tables = ("payments_idempotencykey", "payments_paymentevent", "payments_attempt", "payments_gatewayevent")
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            for table in tables:
                cursor.execute(f"DELETE FROM {table} WHERE payment_id = %s", [payment.pk])
            cursor.execute("DELETE FROM payments_payment WHERE id = %s", [payment.pk])
        finally:
            cursor.execute("RESET session_replication_role")
