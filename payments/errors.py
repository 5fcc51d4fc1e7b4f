"""Why a request was refused. Each class's docstring is what the caller reads; nothing was done or stored."""

from uuid import UUID

from merchants.refusals import Refused


class IdempotencyKeyMissing(Refused):
    """Send an `Idempotency-Key` header: a value of your own, new for each payment, the same for each retry of it."""

    code = "idempotency_key_missing"
    status_code = 400
    title = "Idempotency key missing"

    def __init__(self, *, in_field: bool = False) -> None:
        super().__init__(in_field)
        self.in_field = in_field
        self.pointer = "/idempotency_key" if in_field else ""

    @property
    def detail(self) -> str:
        """Return where to send the key."""
        if self.in_field:
            return (
                "The field `idempotency_key` is missing: send a value of your own, new for each payment, the same for "
                "each retry of it."
            )
        return super().detail


class IdempotencyKeyInvalid(Refused):
    """An idempotency key has 1 to 255 printable ASCII characters other than space, comma, double quote and backslash;
    it is sent bare or in double quotes.
    """

    code = "idempotency_key_invalid"
    status_code = 400
    title = "Idempotency key malformed"

    def __init__(self, *, in_field: bool = False) -> None:
        super().__init__(in_field)
        self.pointer = "/idempotency_key" if in_field else ""


class IdempotencyKeyMismatch(Refused):
    """The header `Idempotency-Key` and the field `idempotency_key` differ; send one of them, or both alike."""

    code = "idempotency_key_mismatch"
    status_code = 400
    title = "Two different idempotency keys"


class IdempotencyKeyReused(Refused):
    """This idempotency key was used for another request; use a new key for a new payment."""

    code = "idempotency_key_reused"
    status_code = 422
    title = "Idempotency key used for another request"


class IdempotencyKeyInUse(Refused):
    """Another request with this key, or for this order, is still being accepted; try again shortly."""

    code = "idempotency_key_in_use"
    status_code = 409
    title = "Request under way"
    retryable = True


class NoGateway(Refused):
    """No gateway is configured for live payments; nothing was done. Use a test key, or ask the operator."""

    code = "no_live_gateway"
    status_code = 503
    title = "No live gateway"


class PaymentMethodRequired(Refused):
    """A live payment needs a `payment_method`; only test payments have a default."""

    code = "payment_method_required"
    status_code = 400
    title = "Payment method required"


class WebhookNotAuthentic(Refused):
    """The webhook's signature is missing, wrong or older than five minutes; nothing was stored. Sign it anew."""

    code = "webhook_not_authentic"
    status_code = 401
    title = "Webhook not authentic"


class UnknownGateway(Refused):
    """There is no gateway of this name that sends webhooks; nothing was stored. Mend the address."""

    code = "gateway_unknown"
    status_code = 404
    title = "Unknown gateway"


class NothingToResolve(Refused):
    """No open dead letter matches that is not in somebody's hands already; nothing was done. Look at the list again."""

    code = "nothing_to_resolve"
    status_code = 409
    title = "Nothing to resolve"


class OrderConflict(Refused):
    """Another payment has this order."""

    def __init__(self, payment_id: UUID) -> None:
        super().__init__(payment_id)
        self.payment_id = payment_id


class OrderPaymentActive(OrderConflict):
    """Another payment for this order is under way; follow it, and pay again only if it fails."""

    code = "order_payment_active"
    status_code = 409
    title = "Order has a payment under way"


class OrderAlreadyPaid(OrderConflict):
    """This order is already paid."""

    code = "order_already_paid"
    status_code = 409
    title = "Order already paid"


class AmountAboveCeiling(Refused):
    """One payment of this merchant is never above the amount that `detail` names; nothing was stored. Ask for less, or
    ask the operator if that amount has become too little.
    """

    code = "above_ceiling"
    status_code = 400
    title = "Amount above the merchant's ceiling"
    pointer = "/amount"

    def __init__(self, *, ceiling: str, currency: str) -> None:
        super().__init__(ceiling, currency)
        self.ceiling = ceiling
        self.currency = currency

    @property
    def detail(self) -> str:
        """The ceiling, and what to do."""
        return (
            f"One payment is at most {self.ceiling} {self.currency}: ask for less, or ask the operator if that has "
            "become too little."
        )


class TooManyPayments(Refused):
    """This merchant has asked for more payments than its limit `creation` lets through; nothing was stored. Wait as
    long as `Retry-After` says, then send the same request again with the same idempotency key.
    """

    code = "rate_limited_creation"
    status_code = 429
    title = "Too many payments"
    retryable = True

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class TooManyDeclines(Refused):
    """So many payments were declined lately that somebody may be testing stolen cards. No payment is accepted from
    whom `detail` names until `Retry-After` has passed; nothing was stored. The operator can lift the block earlier.
    """

    code = "too_many_declines"
    status_code = 429
    title = "Too many declines"
    retryable = True

    def __init__(self, *, whole_merchant: bool, retry_after: int) -> None:
        super().__init__(whole_merchant, retry_after)
        self.whole_merchant = whole_merchant
        self.retry_after = retry_after

    @property
    def detail(self) -> str:
        """Who is blocked, and what to do."""
        who = "all payers of this merchant" if self.whole_merchant else "this payer (`user_id`)"
        return (
            f"Too many payments of {who} were declined within an hour; none is accepted for a while, and nothing was "
            "stored. Try again when `Retry-After` has passed, or ask the operator to lift the block."
        )


class UnmatchedChargeResolved(Refused):
    """This unmatched charge is not open any more; nothing was done. Its page says by whom it was resolved, and how."""

    code = "unmatched_charge_resolved"
    status_code = 409
    title = "Unmatched charge resolved already"


class UnmatchedChargeAwaited(Refused):
    """A payment under way may still take this charge; nothing was done. Wait until that payment is final."""

    code = "unmatched_charge_awaited"
    status_code = 409
    title = "A payment may still take the charge"
    retryable = True

    def __init__(self, payment_id: UUID) -> None:
        super().__init__(payment_id)
        self.payment_id = payment_id

    @property
    def detail(self) -> str:
        """Return which payment it is."""
        return (
            f"Payment {self.payment_id} is under way and may still take this charge; nothing was done. Wait until that "
            "payment is final: if it takes the charge, the charge is closed as matched."
        )


class AdoptionRefused(Refused):
    """No payment can be created from this charge; nothing was done. `detail` says why; refund the charge instead."""

    code = "adoption_refused"
    status_code = 409
    title = "Charge cannot be adopted"

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    @property
    def detail(self) -> str:
        """Return the reason."""
        return f"{self.why} Nothing was done; refund the charge instead, or dismiss it."
