"""Step 1: accept. The idempotency key, the payment, its first event and the message are one commit."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.db.models.functions import Now
from psycopg import errors as postgres

from merchants.models import Merchant, Mode
from messaging import outbox
from payments import idempotency, transitions, velocity
from payments.errors import (
    AmountAboveCeiling,
    IdempotencyKeyInUse,
    NoGateway,
    OrderAlreadyPaid,
    OrderConflict,
    OrderPaymentActive,
    PaymentMethodRequired,
    TooManyPayments,
)
from payments.gateways import registry
from payments.idempotency import Answer
from payments.models import Payment
from payments.money import to_major_units
from payments.reads import path_of, payments_of, represent

#: What a test payment is paid with when it names nothing.
DEFAULT_TEST_METHOD: Final = "pm_ok"
#: How often an order's holder may vanish between the conflict and our look at it before we ask the caller
#: to come again. Once happens when it fails at that moment; more is a storm.
MAX_RACES: Final = 3
LATER_FIELDS: Final = frozenset({"receipt_email", "receipt_phone"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """A valid wish to be paid; `amount` is in minor units."""

    amount: int
    currency: str
    order_id: str = ""
    user_id: str = ""
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    payment_method: str = ""
    webhook_url: str = ""
    receipt_email: str = ""
    receipt_phone: str = ""

    def values(self) -> dict[str, Any]:
        """What makes two requests the same. A field that came later counts where it is given, and so keeps keys of
        before it valid.
        """
        values = asdict(self)
        return {name: value for name, value in values.items() if value or name not in LATER_FIELDS}


def accept_payment(
    *,
    merchant: Merchant,
    mode: Mode,
    idempotency_key: str,
    request: PaymentRequest,
    request_id: str,
    now: datetime,
    admitted: bool = True,
) -> Answer:
    """Accept a payment, or repeat the answer of the request that first used the key. Only that is done for a request
    that the merchant's limit has not `admitted`.

    Raises:
        NoGateway, PaymentMethodRequired: the request cannot be carried out in this mode.
        IdempotencyKeyReused: the key belongs to another request.
        IdempotencyKeyInUse: the first request under the key did not finish in time; nothing was done.
        OrderPaymentActive, OrderAlreadyPaid: another payment has the order; nothing was done.
        AmountAboveCeiling, TooManyPayments, TooManyDeclines: a limit of the merchant or of the payer; nothing was done.
    """
    print_ = idempotency.fingerprint("payments.create", {"mode": mode.value, **request.values()})
    payment = build_payment(merchant=merchant, mode=mode, request=request, request_id=request_id, now=now)
    for _ in range(MAX_RACES):
        try:
            return insert_or_replay(payment, key=idempotency_key, print_=print_, admitted=admitted)
        except OperationalError as error:
            if isinstance(error.__cause__, postgres.LockNotAvailable):
                raise IdempotencyKeyInUse from error
            raise
        except IntegrityError as error:
            if not breaks_order_rule(error):
                raise
        if conflict := find_order_conflict(payment):
            raise conflict
    raise IdempotencyKeyInUse


def build_payment(
    *, merchant: Merchant, mode: Mode, request: PaymentRequest, request_id: str, now: datetime
) -> Payment:
    """The payment as it will be inserted; nothing is written yet."""
    gateway = registry.name_for(mode)
    if gateway is None:
        raise NoGateway
    if mode == Mode.LIVE and not request.payment_method:
        raise PaymentMethodRequired
    return Payment(
        merchant=merchant,
        mode=mode,
        gateway=gateway,
        amount=request.amount,
        currency=request.currency,
        order_id=request.order_id,
        user_id=request.user_id,
        description=request.description,
        metadata=request.metadata,
        payment_method=request.payment_method or DEFAULT_TEST_METHOD,
        webhook_url=request.webhook_url,
        receipt_email=request.receipt_email,
        receipt_phone=request.receipt_phone,
        request_id=request_id,
        created_at=now,
        # By the database's clock, as the rescue and the claim ask.
        revive_at=Now() + timedelta(seconds=settings.REVIVE_AFTER),
        charge_before=Now() + registry.get(gateway).max_age,
    )


@transaction.atomic(durable=True)
def insert_or_replay(payment: Payment, *, key: str, print_: bytes, admitted: bool = True) -> Answer:
    """The one transaction. A twin waits at the key until the first commits, and then replays."""
    body = json.dumps(represent(payment), ensure_ascii=False, separators=(",", ":"))
    ours = Answer(status_code=202, body=body, location=path_of(payment))
    answer = idempotency.claim_or_replay(
        merchant=payment.merchant, key=key, print_=print_, answer=ours, payment=payment
    )
    if answer.replayed:
        return answer
    # From here on it is a new payment: what the merchant's limits say today is nothing to one that was accepted before.
    require_below_ceiling(payment)
    velocity.require_unblocked(payment, now=payment.created_at)
    if not admitted:
        raise TooManyPayments
    transitions.begin(payment)
    outbox.stage("payment.due", {"ids": [str(payment.pk)]}, request_id=payment.request_id)
    return answer


def require_below_ceiling(payment: Payment) -> None:
    """Raises AmountAboveCeiling if it is more than the merchant takes at once."""
    ceiling = payment.merchant.amount_ceilings.get(payment.currency)
    if ceiling is not None and Decimal(to_major_units(payment.amount, payment.currency)) > Decimal(ceiling):
        raise AmountAboveCeiling(ceiling=ceiling, currency=payment.currency)


def breaks_order_rule(error: IntegrityError) -> bool:
    """Whether an insert failed because another payment holds the order."""
    cause = error.__cause__
    return isinstance(cause, postgres.UniqueViolation) and cause.diag.constraint_name == "one_payment_holds_an_order"


def find_order_conflict(payment: Payment) -> OrderConflict | None:
    """The refusal that names the payment that holds the order, or None when it has just let go of it."""
    holder = (
        payments_of(payment.merchant, Mode(payment.mode)).filter(order_id=payment.order_id, holds_order=True).first()
    )
    if holder is None:
        return None
    refusal = OrderAlreadyPaid if holder.amount_captured else OrderPaymentActive
    return refusal(holder.pk)
