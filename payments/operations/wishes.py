"""What is asked for at step 1, and all that can be said of it before the database is asked."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from merchants.models import Merchant, Mode
from merchants.refusals import Refused
from payments import idempotency, velocity
from payments.errors import AmountAboveCeiling, NoGateway, PaymentMethodRequired, TooManyPayments
from payments.gateways import registry
from payments.ids import uuid7
from payments.models import Payment
from payments.money import to_major_units

#: What a test payment is paid with when it names nothing.
DEFAULT_TEST_METHOD: Final = "pm_ok"
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
        values = {name: getattr(self, name) for name in REQUESTED}
        return {name: value for name, value in values.items() if value or name not in LATER_FIELDS}


REQUESTED: Final = tuple(column.name for column in fields(PaymentRequest))
#: What a payment is where nobody asks for anything, in the order in which the model takes it: by name it would ask each
#: column for its default, every time.
UNASKED: Final = {column.attname: column.get_default() for column in Payment._meta.concrete_fields}  # noqa: SLF001  # documented


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request of somebody. One that no limit has `admitted` is answered only if it repeats another."""

    merchant: Merchant
    mode: Mode
    idempotency_key: str
    request: PaymentRequest
    request_id: str
    now: datetime
    admitted: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A wish, the payment that it would become, and why it becomes none, should it be new."""

    payment: Payment
    key: str
    print_: bytes
    refusal: Refused | None

    @property
    def claims(self) -> Iterable[tuple[object, ...]]:
        """What no two payments may have."""
        yield "key", self.payment.merchant_id, self.key
        if self.payment.order_id:
            yield "order", self.payment.merchant_id, self.payment.mode, self.payment.order_id


def prepare(wish: Wish) -> Candidate:
    """Make a candidate of a wish; nothing is written.

    Raises:
        NoGateway, PaymentMethodRequired: the request cannot be carried out in this mode.
    """
    print_ = idempotency.fingerprint("payments.create", {"mode": wish.mode.value, **wish.request.values()})
    payment = build_payment(wish)
    return Candidate(payment, wish.idempotency_key, print_, refusal_of(payment, admitted=wish.admitted))


def build_payment(wish: Wish) -> Payment:
    """The payment as it will be inserted; its times of the database's clock are set there."""
    gateway = registry.name_for(wish.mode)
    if gateway is None:
        raise NoGateway
    if wish.mode == Mode.LIVE and not wish.request.payment_method:
        raise PaymentMethodRequired
    request = wish.request
    asked = {
        "id": uuid7(),
        "mode": wish.mode,
        "gateway": gateway,
        **{name: getattr(request, name) for name in REQUESTED},
        "payment_method": request.payment_method or DEFAULT_TEST_METHOD,
        "request_id": wish.request_id,
        "created_at": wish.now,
        "gateway_key_base": idempotency.gateway_key_base(
            merchant_id=wish.merchant.pk, mode=wish.mode.value, key=wish.idempotency_key
        ),
    }
    payment = Payment(*(UNASKED | asked).values())  # type: ignore[misc]  # in the order of its columns
    payment.merchant = wish.merchant
    return payment


def refusal_of(payment: Payment, *, admitted: bool) -> Refused | None:
    """Why it is not accepted, should it be new: what the merchant's limits say today is nothing to one that was
    accepted before.
    """
    try:
        require_below_ceiling(payment)
        velocity.require_unblocked(payment, now=payment.created_at)
        if not admitted:
            raise TooManyPayments
    except Refused as refusal:
        return refusal
    return None


def require_below_ceiling(payment: Payment) -> None:
    """Raises AmountAboveCeiling if it is more than the merchant takes at once."""
    ceiling = payment.merchant.amount_ceilings.get(payment.currency)
    if ceiling is not None and Decimal(to_major_units(payment.amount, payment.currency)) > Decimal(ceiling):
        raise AmountAboveCeiling(ceiling=ceiling, currency=payment.currency)
