"""What can be done with a payment. The only callers of the gateway; every other module calls one of these."""

from payments.operations.accept import Outcome, accept_at_once, accept_payment, accept_payments, attempt
from payments.operations.inbox import handle_gateway_event, receive_gateway_event
from payments.operations.process import process_payments
from payments.operations.refund_approval import request_refund
from payments.operations.refund_unmatched_charge import refund_unmatched_charge
from payments.operations.resolve_unmatched_charge import adopt_charge, dismiss_charge
from payments.operations.retry import look_up_now, retry_now
from payments.operations.wishes import PaymentRequest, Wish

__all__ = [
    "Outcome",
    "PaymentRequest",
    "Wish",
    "accept_at_once",
    "accept_payment",
    "accept_payments",
    "adopt_charge",
    "attempt",
    "dismiss_charge",
    "handle_gateway_event",
    "look_up_now",
    "process_payments",
    "receive_gateway_event",
    "refund_unmatched_charge",
    "request_refund",
    "retry_now",
]
