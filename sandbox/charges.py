"""What a charge request must look like."""

import json
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
    document = read_object(body)
    for name, types in CHARGE_FIELDS.items():
        value = document.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise Refusal(400, "field_invalid", f"{name} is missing or of the wrong type.")
    if document["amount"] <= 0:
        raise Refusal(400, "field_invalid", "amount is not above zero.")
    method = document.get("payment_method")
    if not isinstance(method, str) or method not in BEHAVIOURS:
        known = ", ".join(BEHAVIOURS)
        raise Refusal(400, "payment_method_unknown", f"The sandbox knows these payment methods: {known}.")
    return {name: document[name] for name in CHARGE_FIELDS}, method
