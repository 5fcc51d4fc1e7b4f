"""Why a request was refused. Each class's docstring is what the caller reads; nothing was done or stored."""

from typing import ClassVar
from uuid import UUID


class Refused(Exception):
    """The request was refused."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False

    @property
    def detail(self) -> str:
        """One paragraph for the caller: what is wrong and how to mend it."""
        return " ".join((self.__doc__ or "").split())


class IdempotencyKeyMissing(Refused):
    """Send an `Idempotency-Key` header: a value of your own, new for each payment, the same for each retry of it."""

    code = "idempotency_key_missing"


class IdempotencyKeyInvalid(Refused):
    """An idempotency key has 1 to 255 characters out of A-Z, a-z, 0-9 and `. _ : -`, bare or in double quotes."""

    code = "idempotency_key_invalid"


class IdempotencyKeyMismatch(Refused):
    """The header `Idempotency-Key` and the field `idempotency_key` differ; send one of them, or both alike."""

    code = "idempotency_key_mismatch"


class IdempotencyKeyReused(Refused):
    """This idempotency key was used for another request; use a new key for a new payment."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(Refused):
    """Another request with this key, or for this order, is still being accepted; try again shortly."""

    code = "idempotency_key_in_use"
    retryable = True


class NoGateway(Refused):
    """No gateway is configured for live payments; nothing was done. Use a test key, or ask the operator."""

    code = "no_live_gateway"


class PaymentMethodRequired(Refused):
    """A live payment needs a `payment_method`; only test payments have a default."""

    code = "payment_method_required"


class WebhookNotAuthentic(Refused):
    """The webhook's signature is missing, wrong or older than five minutes; nothing was stored. Sign it anew."""

    code = "webhook_not_authentic"


class UnknownGateway(Refused):
    """There is no gateway of this name that sends webhooks; nothing was stored. Mend the address."""

    code = "gateway_unknown"


class NothingToResolve(Refused):
    """No open dead letter matches that is not in somebody's hands already; nothing was done. Look at the list again."""

    code = "nothing_to_resolve"


class OrderConflict(Refused):
    """Another payment has this order."""

    def __init__(self, payment_id: UUID) -> None:
        super().__init__(payment_id)
        self.payment_id = payment_id


class OrderPaymentActive(OrderConflict):
    """Another payment for this order is under way; follow it, and pay again only if it fails."""

    code = "order_payment_active"


class OrderAlreadyPaid(OrderConflict):
    """This order is already paid."""

    code = "order_already_paid"
