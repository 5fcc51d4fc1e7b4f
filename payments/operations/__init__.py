"""What can be done with a payment. The only callers of the gateway; every other module calls one of these."""

from payments.operations.accept import Outcome, accept_at_once, accept_payment, accept_payments, attempt
from payments.operations.inbox import handle_gateway_event, receive_gateway_event
from payments.operations.process import process_payments
from payments.operations.retry import retry_now
from payments.operations.wishes import PaymentRequest, Wish

__all__ = [
    "Outcome",
    "PaymentRequest",
    "Wish",
    "accept_at_once",
    "accept_payment",
    "accept_payments",
    "attempt",
    "handle_gateway_event",
    "process_payments",
    "receive_gateway_event",
    "retry_now",
]
