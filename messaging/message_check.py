"""Check a message before Dramatiq sees it: only what the relay of this release may publish reaches an actor.

Dramatiq trusts what it decodes. It looks up the consumer by the queue that the message names itself, keeps messages
with an `eta` unacknowledged in memory, and catches exceptions by classes that the options name. One such message ends
the threads of every worker that receives it (docs/adr/0027). A message that fails the check is rejected to its
dead-letter queue; the collector runs the same check there and stores the reason.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Never

from django.conf import settings
from dramatiq import Message

from messaging.payloads import arguments_of

#: Larger bodies are refused unread. A list of `MAX_IDS_PER_MESSAGE` ids, each with a request id of its own, has 105 kB.
MAX_MESSAGE_BYTES: Final = 256 * 1024
#: Characters of a request id; the columns hold no more.
MAX_REQUEST_ID_LENGTH: Final = 128
#: Ids of rows are positive `bigint`s.
MAX_ROW_ID: Final = 2**63 - 1
#: What fits the `attempts` of a dead letter with one more. While PostgreSQL is at fault, a message escapes without end.
MAX_ESCAPES: Final = 2**31 - 2
#: The last millisecond of the year 9999.
MAX_TIMESTAMP_MS: Final = 253_402_300_799_999
#: Years that a time in an option may be in; PostgreSQL and Python can both hold them in every time zone.
YEARS: Final = range(2000, 3000)

FIELDS: Final = frozenset({"queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"})
UUID_TEXT: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ACTOR_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
#: What PostgreSQL cannot store: NUL, and half of a surrogate pair.
UNSTORABLE: Final = re.compile("[\\0\ud800-\udfff]")
#: Names that are quoted in a reason; any other may be a value in the place of a name.
QUOTABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class InvalidMessage(Exception):
    """A message that no worker accepts: the code of the check that it fails, and the reason in plain words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def read_message(body: bytes, *, queue: str) -> Message[Any]:
    """Return the message in a body that was received from a queue.

    Raises:
        InvalidMessage: the message fails a check. Nothing else is raised, whatever the bytes are.
    """
    message = parse_message(body, queue=queue)
    check_actor(message.actor_name, queue=queue)
    return message


def parse_message(body: bytes, *, queue: str) -> Message[Any]:
    """Do what `read_message` does, and accept actors that this release does not know: another release may."""
    fields = _decode(body)
    _check_fields(fields, queue=queue)
    check_arguments(fields["actor_name"], fields["args"], fields["kwargs"])
    _check_options(fields["options"])
    return Message(**{**fields, "args": tuple(fields["args"])})


def check_payload(payload: Mapping[str, Any], *, queue: str, actor: str) -> None:
    """Check the arguments that a row keeps, as of a dead letter that is to be replayed.

    Raises:
        InvalidMessage: workers would refuse a message with these arguments.
    """
    args, kwargs = arguments_of(payload)
    check_arguments(actor, list(args), kwargs)
    check_actor(actor, queue=queue)


def check_actor(actor: str, *, queue: str) -> None:
    """Raise InvalidMessage unless the setting `MESSAGE_ROUTES` has the actor receive messages from the queue."""
    if (queue, actor) not in settings.MESSAGE_ROUTES.values():
        raise InvalidMessage("unknown_actor", f"No actor {_quoted(actor)} receives messages from queue `{queue}`.")


def check_arguments(actor: str, args: Any, kwargs: Any) -> None:
    """Raise InvalidMessage unless the arguments are `ids`, a list of as many ids as allowed, of the actor's type."""
    if args != [] or not isinstance(kwargs, dict) or set(kwargs) != {"ids"}:
        raise InvalidMessage("arguments_invalid", "An actor has one argument, `ids`, by name; this message has others.")
    ids, most = kwargs["ids"], settings.MAX_IDS_PER_MESSAGE
    if not isinstance(ids, list) or not 1 <= len(ids) <= most:
        number = f"a list of {len(ids)}" if isinstance(ids, list) else "no list"
        raise InvalidMessage("ids_invalid", f"`ids` must be a list of 1 to {most} ids; this is {number}.")
    kind = settings.ACTOR_ID_TYPES.get(actor)
    if not any(all(map(_ID_CHECKS[name], ids)) for name in ([kind] if kind else _ID_CHECKS)):
        expected = kind or " or ".join(_ID_CHECKS)
        raise InvalidMessage("ids_invalid", f"Each of `ids` must be of type {expected}; one of them is not.")


# --- the parts of an envelope


def _decode(body: bytes) -> Any:
    """The document in a body: strict JSON, in which no name occurs twice."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(
            "message_too_large", f"The message has {len(body)} bytes; at most {MAX_MESSAGE_BYTES} are allowed."
        )
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except ValueError as error:
        detail = "a name occurs twice" if isinstance(error, _RepeatedName) else "it is not JSON in UTF-8"
    except RecursionError:
        detail = "it is nested too deeply"
    raise InvalidMessage("undecodable", f"The body cannot be read: {detail}.") from None


class _RepeatedName(ValueError):
    """An object with the same name twice has two meanings."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise _RepeatedName
    return document


def _refuse_constant(_name: str) -> Never:
    raise ValueError


def _check_fields(fields: Any, *, queue: str) -> None:
    if not isinstance(fields, dict) or set(fields) != FIELDS:
        raise InvalidMessage(
            "fields_invalid", f"The body must be an object with the fields {', '.join(sorted(FIELDS))}."
        )
    if fields["queue_name"] != queue:
        named = _quoted(fields["queue_name"])
        raise InvalidMessage("wrong_queue", f"`queue_name` is {named}, but the message was in queue `{queue}`.")
    if not _matches(ACTOR_NAME, fields["actor_name"]):
        raise InvalidMessage("unknown_actor", "`actor_name` is not the name of an actor.")
    if not _is_uuid(fields["message_id"]):
        raise InvalidMessage("message_id_invalid", "`message_id` must be a UUID in lower case.")
    if not _is_integer(fields["message_timestamp"], 0, MAX_TIMESTAMP_MS):
        raise InvalidMessage("timestamp_invalid", "`message_timestamp` must be milliseconds since 1970, an integer.")


def _check_options(options: Any) -> None:
    if not isinstance(options, dict):
        raise InvalidMessage("option_invalid", "`options` must be an object.")
    for name, value in options.items():
        if name not in _OPTIONS:
            raise InvalidMessage("option_not_allowed", f"The option {_quoted(name)} is not allowed.")
        is_valid, rule = _OPTIONS[name]
        if not is_valid(value):
            raise InvalidMessage("option_invalid", f"The option `{name}` must be {rule}.")


# --- the types of values


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_uuid(value: Any) -> bool:
    return _matches(UUID_TEXT, value)


def _is_integer(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_row_id(value: Any) -> bool:
    return _is_integer(value, 1, MAX_ROW_ID)


def _is_request_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_REQUEST_ID_LENGTH and not UNSTORABLE.search(value)


def _are_request_ids(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= settings.MAX_IDS_PER_MESSAGE
        and all(_is_request_id(part) for item in value.items() for part in item)
    )


def _is_time(value: Any) -> bool:
    try:
        time = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return False
    return time.tzinfo is not None and time.year in YEARS


_ID_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {"uuid": _is_uuid, "integer": _is_row_id}
#: Options that a message may have -> the check of the value, and the rule in words. Dramatiq's own are not among them:
#: `eta`, `throws`, `pipe_target` and others change what a worker does.
_OPTIONS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "request_id": (_is_request_id, f"text of at most {MAX_REQUEST_ID_LENGTH} characters"),
    "request_ids": (_are_request_ids, "an object: id -> request id"),
    "replay_of": (_is_row_id, "the id of a dead letter"),
    "escapes": (lambda value: _is_integer(value, 1, MAX_ESCAPES), f"an integer from 1 to {MAX_ESCAPES}"),
    "first_failed_at": (_is_time, "a time in ISO 8601 with its offset from UTC"),
}


def _quoted(name: Any) -> str:
    """A name that a message contains, for the reason; other values are not quoted."""
    return f"`{name}`" if _matches(QUOTABLE, name) else "(not shown here)"
