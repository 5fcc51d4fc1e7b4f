"""Events as a room announces them."""

from uuid import uuid4

from messaging.outbox import Announcement


def announcement(event_id=None, *, kind="payment.created", request_id=""):
    return Announcement(
        kind=kind,
        event_id=event_id or uuid4(),
        body=b"{}",
        content_type="application/json",
        request_id=request_id,
    )
