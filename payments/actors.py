"""What RabbitMQ calls: load ids, call one operation each."""

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

import dramatiq

from payments.operations import handle_gateway_event, process_payment

Id = TypeVar("Id", str, int)


@dramatiq.actor(queue_name="payments")
def process_payments(ids: list[str]) -> None:
    """Bring each payment as far as it can go now."""
    each(ids, lambda payment_id: process_payment(payment_id=UUID(payment_id)))


@dramatiq.actor(queue_name="payments")
def handle_gateway_events(ids: list[int]) -> None:
    """Take up each of these stored events."""
    each(ids, lambda event_id: handle_gateway_event(event_id=event_id))


def each(ids: Iterable[Id], operation: Callable[[Id], None]) -> None:
    """Do it for all. One that fails unexpectedly does not hold up the others."""
    defects: list[Exception] = []
    for id_ in ids:
        try:
            operation(id_)
        except Exception as error:  # noqa: BLE001  # raised below, once the others had their turn
            defects.append(error)
    if defects:
        raise defects[0] if len(defects) == 1 else ExceptionGroup("several escaped", defects)
