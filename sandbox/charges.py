"""What requests about charges and refunds must look like."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sandbox.behaviours import BEHAVIOURS
from sandbox.replies import Refusal

#: What a charge is made of, and of which type.
CHARGE_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "payment_id": (str,),
    "merchant": (str,),
    "order_id": (str, type(None)),
    "amount": (int,),
    "currency": (str,),
}
#: What a refund is made of, and of which type.
REFUND_FIELDS: Final[dict[str, tuple[type, ...]]] = {"charge": (str,), "amount": (int,), "currency": (str,)}
#: Charges in one page of the list: by default, and at most.
PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 500


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal when it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "body_invalid", "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise Refusal(400, "body_invalid", "The body is not a JSON object.")
    return document


def read_charge(body: bytes) -> tuple[dict[str, Any], str]:
    """The charge that is asked for, and its payment method. Raises Refusal when it is none."""
    document = read_fields(body, CHARGE_FIELDS)
    method = document.get("payment_method")
    if not isinstance(method, str) or method not in BEHAVIOURS:
        known = ", ".join(BEHAVIOURS)
        raise Refusal(400, "payment_method_unknown", f"The sandbox knows these payment methods: {known}.")
    return {name: document[name] for name in CHARGE_FIELDS}, method


def read_refund(body: bytes) -> dict[str, Any]:
    """Return the refund that is requested: `charge`, `amount`, `currency`. Raises Refusal when it is none."""
    document = read_fields(body, REFUND_FIELDS)
    return {name: document[name] for name in REFUND_FIELDS}


def read_fields(body: bytes, fields: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return the body, with these fields of these types and an amount above zero. Raises Refusal."""
    document = read_object(body)
    for name, types in fields.items():
        value = document.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise Refusal(400, "field_invalid", f"{name} is missing or of the wrong type.")
    if document["amount"] <= 0:
        raise Refusal(400, "field_invalid", "amount is not above zero.")
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which charges to list; `after` is the `seq` of the last one of the page before."""

    since: datetime | None
    until: datetime | None
    after: int
    limit: int


def read_list_query(query: Mapping[str, str]) -> ListQuery:
    """Return the query of a list of charges. Raises Refusal when a parameter has no valid value."""
    return ListQuery(
        since=read_moment(query, "created_since"),
        until=read_moment(query, "created_until"),
        after=read_number(query, "cursor", default=0, maximum=10**15),
        limit=read_number(query, "limit", default=PAGE_SIZE, maximum=MAX_PAGE_SIZE),
    )


def read_moment(query: Mapping[str, str], name: str) -> datetime | None:
    """Return an RFC 3339 time in UTC, or None where it is not given. Raises Refusal."""
    if name not in query:
        return None
    try:
        moment = datetime.fromisoformat(query[name]).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refusal(400, "parameter_invalid", f"{name} is not a time like 2026-12-01T00:00:00Z.") from None
    return moment


def read_number(query: Mapping[str, str], name: str, *, default: int, maximum: int) -> int:
    """Return a whole number from 1 to `maximum`, or the default. Raises Refusal."""
    text = query.get(name, str(default))
    if text == str(default):
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and 1 <= int(text) <= maximum):
        raise Refusal(400, "parameter_invalid", f"{name} is not a whole number from 1 to {maximum}.")
    return int(text)
