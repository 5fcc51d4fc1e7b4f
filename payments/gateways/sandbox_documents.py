"""Reading the sandbox gateway's JSON documents: whatever they contain, nothing here raises."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from payments.gateways.transport import Answer

#: The longest text that is kept of one field: as wide as the columns.
MAX_TEXT_LENGTH: Final = 255


def error_of(answer: Answer) -> dict[str, Any]:
    """The `error` object of an answer, or an empty one."""
    error = parse(answer.body).get("error")
    return error if isinstance(error, dict) else {}


def parse(body: bytes) -> dict[str, Any]:
    """The body as a JSON object, or an empty one."""
    try:
        document = storable(json.loads(body, parse_constant=str, parse_float=finite))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def storable(value: Any) -> Any:
    """The value with texts that PostgreSQL can store: no NUL, no half of a surrogate pair."""
    match value:
        case str():
            return value.replace("\0", "").encode("utf-8", "replace").decode()
        case list():
            return [storable(item) for item in value]
        case dict():
            return {storable(name): storable(item) for name, item in value.items()}
    return value


def finite(text: str) -> float | str:
    """A number that JSON can say again; one beyond a float's range stays text."""
    number = float(text)
    return number if math.isfinite(number) else text


def text_in(document: Mapping[str, Any], name: str) -> str:
    """Return a member that is a string; "" for any other, which says nothing: `null` is no reference "None"."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def text_of(document: Mapping[str, Any], name: str) -> str:
    """Return a member that is a string, cut to what the columns hold; "" for any other."""
    return text_in(document, name)[:MAX_TEXT_LENGTH]


def read_moment(value: object) -> datetime | None:
    """Return an RFC 3339 time with its offset; None where it is anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
