"""What a webhook says: the same bytes at every attempt."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.core.serializers.json import DjangoJSONEncoder

from payments.reads import timestamp

#: Standard Webhooks asks for less than 20 kB.
MAX_BYTES: Final = 20_000
#: What merchants write themselves and know already, and what alone can make a payment large.
LEFT_OUT_FIRST: Final = ("description", "metadata")


class DocumentTooLarge(ValueError):
    """It is too large even without what may be left out."""


def document_of(
    *,
    type: str,  # noqa: A002  # its name in the document
    occurred_at: datetime,
    data: Mapping[str, Any],
    version: int | None = None,
) -> bytes:
    """The body of a webhook. `version` orders the events of one payment.

    Where it would be too large, `metadata` and `description` are left out, and `data.left_out` says so: the payment's
    own address has them.
    """
    data = {**data} if version is None else {**data, "version": version}
    body = encode(type, occurred_at, data)
    if len(body) < MAX_BYTES:
        return body
    left_out = [name for name in LEFT_OUT_FIRST if name in data]
    rest = {name: value for name, value in data.items() if name not in left_out}
    body = encode(type, occurred_at, {**rest, "left_out": left_out})
    if len(body) >= MAX_BYTES:
        raise DocumentTooLarge(f"{len(body)} bytes of {type}")
    return body


def encode(name: str, occurred_at: datetime, data: Mapping[str, Any]) -> bytes:
    """JSON with sorted names, for the database keeps no order of them."""
    document = {"type": name, "timestamp": timestamp(occurred_at), "data": data}
    text = json.dumps(
        document, cls=DjangoJSONEncoder, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
