"""What can be done with a payment. The only callers of the gateway; every other module calls one of these."""

from payments.operations.accept import PaymentRequest, accept_payment
from payments.operations.inbox import handle_gateway_event, receive_gateway_event
from payments.operations.process import process_payments
from payments.operations.retry import retry_now

__all__ = [
    "PaymentRequest",
    "accept_payment",
    "handle_gateway_event",
    "process_payments",
    "receive_gateway_event",
    "retry_now",
]
