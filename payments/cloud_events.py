"""An event as other systems get it: CloudEvents 1.0 in JSON. Ids, state and money; what people wrote stays at home.

`docs/events.md` describes it for them and `docs/events.schema.json` for their machines.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from payments.events import EventType
from payments.models import Payment
from payments.reads import PaymentView, timestamp

#: CloudEvents' structured mode: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
CONTENT_TYPE: Final = "application/cloudevents+json"
#: Relative, without a host: an installation answers under several names and changes them, and an event that is
#: published again must keep its identity, which CloudEvents makes of `source` and `id`.
SOURCE: Final = "/payments"
#: What `data` adheres to. CloudEvents wants an absolute URI here; this one is a name, and is in the schema as `$id`.
#: Its number grows when a field changes its meaning or goes away, never when one is added.
DATA_SCHEMA: Final = "urn:payments:schema:payment:1"

#: The payment's fields that leave the house. Named one by one, so that a field that is added to the API stays at
#: home until somebody decides otherwise: description, metadata, the payment method, the webhook's address and an
#: error's detail are personal or free text.
SHARED: Final = (
    "id",
    "status",
    "amount",
    "amount_captured",
    "amount_refunded",
    "currency",
    "order_id",
    "user_id",
    "attempts",
    "created_at",
    "finished_at",
)


def encode(payment: Payment, view: PaymentView, *, event_id: UUID, event_type: EventType, at: datetime) -> bytes:
    """The document of an event, in bytes; the payment, and its `view`, are as they were right after."""
    document = {
        "specversion": "1.0",
        "id": str(event_id),
        "source": SOURCE,
        "type": event_type,
        "subject": str(payment.pk),
        "time": timestamp(at),
        "datacontenttype": "application/json",
        "dataschema": DATA_SCHEMA,
        "merchant": payment.merchant.slug,
        "mode": payment.mode,
        # An integer per payment; CloudEvents' extension `sequence` is a string that orders a whole source.
        "version": payment.version,
        "data": data_of(view, version=payment.version),
    }
    return orjson.dumps(document)


def data_of(view: PaymentView, *, version: int) -> dict[str, Any]:
    """What is told of the payment."""
    shown: dict[str, Any] = dict(view)
    error = view["last_error"]
    return {
        **{name: shown[name] for name in SHARED},
        "last_error": error and {"code": error["code"], "decline_code": error["decline_code"]},
        "version": version,
    }
