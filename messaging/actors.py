"""What RabbitMQ calls in this room."""

import dramatiq

from messaging import resolutions


@dramatiq.actor(queue_name="payments")
def continue_resolutions(ids: list[int]) -> None:
    """Resolve the next chunk of dead letters of each of these decisions."""
    for resolution_id in ids:
        resolutions.work_off(resolution_id, in_background=True)
