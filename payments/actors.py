"""What RabbitMQ calls: load ids, call one operation each."""

from uuid import UUID

import dramatiq

from payments.operations import process_payment


@dramatiq.actor(queue_name="payments")
def process_payments(ids: list[str]) -> None:
    """Bring each payment as far as it can go now. One that fails unexpectedly does not hold up the others."""
    defects: list[Exception] = []
    for payment_id in ids:
        try:
            process_payment(payment_id=UUID(payment_id))
        except Exception as error:  # noqa: BLE001  # raised below, once the others had their turn
            defects.append(error)
    if defects:
        raise defects[0] if len(defects) == 1 else ExceptionGroup("several payments escaped", defects)
