"""What RabbitMQ calls: load ids, call one operation."""

from uuid import UUID

import dramatiq

from messaging.escapes import each
from payments import operations


@dramatiq.actor(queue_name="payments")
def process_payments(ids: list[str]) -> None:
    """Bring these payments as far as they can go now."""
    operations.process_payments(payment_ids=[UUID(payment_id) for payment_id in ids])


@dramatiq.actor(queue_name="payments")
def look_up_payments(ids: list[str]) -> None:
    """Bring the look-ups of these payments forward."""
    each(ids, lambda payment_id: operations.look_up_now(payment_id=UUID(payment_id)))


@dramatiq.actor(queue_name="payments")
def refund_unmatched_charges(ids: list[int]) -> None:
    """Bring the refunds of these unmatched charges as far as they can go now."""
    each(ids, lambda charge_id: operations.refund_unmatched_charge(charge_id=charge_id))


@dramatiq.actor(queue_name="payments")
def handle_gateway_events(ids: list[int]) -> None:
    """Take up each of these stored events."""
    each(ids, lambda event_id: operations.handle_gateway_event(event_id=event_id))
