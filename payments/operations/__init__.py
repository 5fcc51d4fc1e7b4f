"""What can be done with a payment. The only callers of the gateway; every other module calls one of these."""

from payments.operations.accept import PaymentRequest, accept_payment
from payments.operations.process import process_payment

__all__ = ["PaymentRequest", "accept_payment", "process_payment"]
