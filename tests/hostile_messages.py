"""Messages that no relay publishes, for tests of the queues: one field of a valid message is wrong, or all of it."""

import json
import struct
import uuid
from typing import Any

import pika
from hypothesis import strategies as st
from pika import data

#: Queue -> an actor that serves it, and an id of the type that this actor takes.
ACTORS: dict[str, tuple[str, Any]] = {
    "payments": ("process_payments", "0190a6f0-0000-7000-8000-000000000001"),
    "notifications": ("send_messages", "0190a6f0-0000-7000-8000-000000000002"),
    "webhooks": ("call_webhooks", "0190a6f0-0000-7000-8000-000000000003"),
}
#: A day from now in any year that matters, in milliseconds since 1970.
FAR_ETA_MS = 32_503_680_000_000
#: Options that Dramatiq or its middleware read.
DRAMATIQ_OPTIONS = [
    *("eta", "delay", "pipe_target", "throws", "priority", "broker_priority", "max_retries", "time_limit"),
    *("retries", "group_completion_uuid", "on_failure"),
]
OWN_OPTIONS = ["escapes", "first_failed_at", "replay_of", "request_id", "request_ids"]


def envelope(queue: str = "payments", **fields: Any) -> dict[str, Any]:
    """A valid message for a queue, with some fields replaced."""
    actor, id_ = ACTORS.get(queue, ACTORS["payments"])
    values = {"queue_name": queue, "actor_name": actor, "args": [], "kwargs": {"ids": [id_]}}
    about = {"options": {"request_id": "r"}, "message_id": str(uuid.uuid4()), "message_timestamp": 1_767_323_045_000}
    return {**values, **about, **fields}


def body_of(document: Any) -> bytes:
    """The document as Dramatiq writes it."""
    return json.dumps(document, separators=(",", ":")).encode()


def publish(url: str, queue: str, *bodies: bytes, **properties: Any) -> None:
    """Publish bodies straight to a queue, and wait for the confirms."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(**properties), mandatory=True)


# --- headers as other clients write them


class RawHeader(bytes):
    """A header's type and value, for values that pika itself cannot write."""


def write_raw_headers(monkeypatch: Any) -> None:
    """Have pika write each `RawHeader` as it is."""
    encode = data.encode_value

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if not isinstance(value, RawHeader):
            return encode(pieces, value)
        pieces.append(value)
        return len(value)

    monkeypatch.setattr(data, "encode_value", encode_value)


def nested_header(depth: int) -> RawHeader:
    """Lists within lists."""
    inner = b""
    for _ in range(depth):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    return RawHeader(b"A" + struct.pack(">I", len(inner)) + inner)


#: Milliseconds where AMQP has seconds: a year that Python does not know.
LATE_TIME = RawHeader(b"T" + struct.pack(">Q", FAR_ETA_MS))


# --- any message


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, FAR_ETA_MS, float("nan"), float("inf"), 1.5]),
    st.text(max_size=20),
    st.sampled_from(["\0", "\ud800", "payments", "nobodys", "payments.DQ", "process_payments", "a" * 300]),
    st.uuids().map(str),
)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
OPTIONS = st.dictionaries(
    st.sampled_from([*DRAMATIQ_OPTIONS, *OWN_OPTIONS]) | st.text(max_size=8), JSON_VALUES, max_size=3
)
KWARGS = st.one_of(
    JSON_VALUES,
    st.fixed_dictionaries({"ids": JSON_VALUES}),
    st.fixed_dictionaries({"ids": st.lists(SCALARS, max_size=4)}),
    st.just({"ids": [str(uuid.UUID(int=number)) for number in range(501)]}),
)
FIELDS = {
    "queue_name": SCALARS | st.lists(SCALARS, max_size=2),
    "actor_name": JSON_VALUES | st.sampled_from(["process_payments", "continue_resolutions", "call_webhooks"]),
    "args": JSON_VALUES,
    "kwargs": KWARGS,
    "options": OPTIONS | JSON_VALUES,
    "message_id": SCALARS,
    "message_timestamp": JSON_VALUES,
}


@st.composite
def hostile_bodies(draw: st.DrawFn, queue: str) -> bytes:
    """A body for a queue: mostly JSON that Dramatiq decodes, with one to three fields replaced, missing or doubled."""
    shape = draw(st.integers(0, 9))
    if shape == 0:
        return draw(st.binary(max_size=60) | st.sampled_from([b"[" * 3000, b"{}", b"null", b"\xef\xbb\xbf{}"]))
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3, unique=True))
    document = envelope(queue, **{name: draw(FIELDS[name]) for name in names})
    if shape == 1:
        del document[names[0]]
    if shape == 2:
        document["more"] = draw(SCALARS)
    body = body_of(document)
    if shape == 3:  # the same name twice
        body = body[:-1] + b"," + body_of({names[0]: draw(FIELDS[names[0]])})[1:]
    return body
