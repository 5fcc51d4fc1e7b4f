"""The check of messages never raises anything unexpected, and accepts what our own relay publishes."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from dramatiq import Message
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from messaging import outbox, relay
from messaging.escapes import LIMIT
from messaging.message_check import (
    FIELDS,
    MAX_ESCAPES,
    MAX_MESSAGE_BYTES,
    MAX_ROW_ID,
    InvalidMessage,
    check_payload,
    read_message,
)
from tests.hostile_messages import (
    ACTORS,
    DRAMATIQ_OPTIONS,
    FAR_ETA_MS,
    JSON_VALUES,
    OWN_OPTIONS,
    body_of,
    envelope,
    hostile_bodies,
)

ID = ACTORS["payments"][1]
#: No example depends on the speed of the machine.
PATIENT = hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refusal(body, queue="payments"):
    with pytest.raises(InvalidMessage) as raised:
        read_message(body, queue=queue)
    return raised.value


def read(body, queue):
    """The message, or its refusal."""
    try:
        return read_message(body, queue=queue), None
    except InvalidMessage as refused:
        return None, refused


# --- what the relay publishes


ACCEPTABLE_REQUEST_IDS = st.text("ABCabc019._:-", max_size=128)
#: What the column of a dead letter or an outbox row may hold.
STORED_TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=128)
TIMES = st.datetimes(min_value=datetime(2000, 1, 2), max_value=datetime(2999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "replay_of": st.integers(1, MAX_ROW_ID),
        "escapes": st.integers(1, MAX_ESCAPES),
        "first_failed_at": TIMES.map(datetime.isoformat),
    },
)
IDS = {"uuid": st.uuids().map(str), "integer": st.integers(1, MAX_ROW_ID)}


@st.composite
def rows_of_one_message(draw):
    """Rows of the outbox that travel together, as `relay.joined` joins them, or one alone."""
    queue, actor = draw(st.sampled_from(sorted(set(settings.MESSAGE_ROUTES.values()))))
    ids = draw(st.lists(IDS[settings.ACTOR_ID_TYPES[actor]], min_size=1, max_size=20))
    if len(ids) == 1 or actor not in settings.LIST_ACTORS:
        return [row(queue, actor, ids, draw(STORED_TEXTS), draw(OPTIONS))]
    return [row(queue, actor, [id_], draw(ACCEPTABLE_REQUEST_IDS), {}) for id_ in ids]


def row(queue, actor, ids, request_id, options):
    values = outbox.row(queue=queue, actor=actor, payload={"ids": ids}, request_id=request_id, options=options)
    return relay.Row(**{name: values.get(name, 0) for name in relay.Row._fields})


@PATIENT
@given(rows_of_one_message())
def test_whatever_the_relay_publishes_is_accepted(rows):
    sent = relay.to_message(rows)
    assert read_message(sent.encode(), queue=rows[0].queue) == sent
    check_payload({"ids": sent.kwargs["ids"]}, queue=rows[0].queue, actor=rows[0].actor)


def test_the_largest_list_with_the_longest_request_ids_is_accepted():
    queue, actor = settings.MESSAGE_ROUTES["payment.due"]
    ids = [str(uuid.uuid4()) for _ in range(settings.MAX_IDS_PER_MESSAGE)]
    sent = relay.to_message([row(queue, actor, [id_], f"{number:0>128}", {}) for number, id_ in enumerate(ids)])
    assert len(sent.encode()) < MAX_MESSAGE_BYTES / 2
    assert read_message(sent.encode(), queue=queue) == sent


def test_dramatiqs_messages_have_the_fields_that_are_checked():
    """A release of Dramatiq with another field would otherwise have every message refused."""
    assert set(Message("q", "a", (), {}, {}).asdict()) == FIELDS


def test_every_actor_is_known_by_the_type_of_its_ids():
    assert set(settings.ACTOR_ID_TYPES) == {actor for _, actor in settings.MESSAGE_ROUTES.values()}
    assert set(settings.LIST_ACTORS.values()) <= set(range(1, settings.MAX_IDS_PER_MESSAGE + 1))
    assert MAX_ESCAPES > LIMIT


# --- anything else


@PATIENT
@given(st.sampled_from(sorted(ACTORS)).flatmap(lambda queue: st.tuples(st.just(queue), hostile_bodies(queue))))
def test_no_message_raises_anything_but_its_refusal(hostile):
    queue, body = hostile
    message, refused = read(body, queue)
    if refused is not None:
        assert refused.detail.endswith(".")
        assert refused.detail.isascii(), "a value of the message is quoted"
        assert len(refused.code) <= 100
        assert len(refused.detail) <= 500
        return
    assert (message.queue_name, message.args, list(message.kwargs)) == (queue, (), ["ids"])
    assert set(message.options) <= set(OWN_OPTIONS)
    assert (queue, message.actor_name) in settings.MESSAGE_ROUTES.values()
    check_payload(message.kwargs, queue=queue, actor=message.actor_name)


@PATIENT
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_their_refusal(body):
    assert refusal(body).code in {"undecodable", "fields_invalid"}


@PATIENT
@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["ids", "*"]), JSON_VALUES, max_size=3))
def test_no_payload_of_a_row_raises_anything_but_its_refusal(payload):
    with pytest.raises(InvalidMessage):
        check_payload({**payload, "more": 1}, queue="payments", actor="process_payments")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"queue_name": "nobodys"}, "wrong_queue"),
        ({"queue_name": "payments.DQ"}, "wrong_queue"),
        ({"queue_name": ["payments"]}, "wrong_queue"),
        ({"queue_name": None}, "wrong_queue"),
        ({"actor_name": "of_tomorrow"}, "unknown_actor"),
        ({"actor_name": "send_messages"}, "unknown_actor"),
        ({"actor_name": ["process_payments"]}, "unknown_actor"),
        ({"actor_name": {}}, "unknown_actor"),
        ({"actor_name": "a" * 101}, "unknown_actor"),
        ({"args": [1]}, "arguments_invalid"),
        ({"args": None}, "arguments_invalid"),
        ({"args": "ids"}, "arguments_invalid"),
        ({"kwargs": {}}, "arguments_invalid"),
        ({"kwargs": {"ids": [ID], "more": 1}}, "arguments_invalid"),
        ({"kwargs": [["ids", [ID]]]}, "arguments_invalid"),
        ({"kwargs": {"ids": []}}, "ids_invalid"),
        ({"kwargs": {"ids": ID}}, "ids_invalid"),
        ({"kwargs": {"ids": [ID] * 501}}, "ids_invalid"),
        ({"kwargs": {"ids": [7]}}, "ids_invalid"),
        ({"kwargs": {"ids": [ID.upper()]}}, "ids_invalid"),
        ({"kwargs": {"ids": [f"{{{ID}}}"]}}, "ids_invalid"),
        ({"kwargs": {"ids": [f"{ID}\n"]}}, "ids_invalid"),
        ({"kwargs": {"ids": [[ID]]}}, "ids_invalid"),
        ({"actor_name": "handle_gateway_events", "kwargs": {"ids": [True]}}, "ids_invalid"),
        ({"actor_name": "handle_gateway_events", "kwargs": {"ids": [0]}}, "ids_invalid"),
        ({"actor_name": "handle_gateway_events", "kwargs": {"ids": [2**63]}}, "ids_invalid"),
        ({"actor_name": "handle_gateway_events", "kwargs": {"ids": [1.0]}}, "ids_invalid"),
        ({"actor_name": "continue_resolutions", "kwargs": {"ids": [ID]}}, "ids_invalid"),
        ({"message_id": 7}, "message_id_invalid"),
        ({"message_id": "not-a-uuid"}, "message_id_invalid"),
        ({"message_timestamp": 10**400}, "timestamp_invalid"),
        ({"message_timestamp": -1}, "timestamp_invalid"),
        ({"message_timestamp": 1.5}, "timestamp_invalid"),
        ({"message_timestamp": True}, "timestamp_invalid"),
        ({"more": 1}, "fields_invalid"),
        ({"options": []}, "option_invalid"),
        ({"options": None}, "option_invalid"),
        ({"options": {"request_id": "r" * 129}}, "option_invalid"),
        ({"options": {"request_id": "\0"}}, "option_invalid"),
        ({"options": {"request_id": "\ud800"}}, "option_invalid"),
        ({"options": {"request_ids": {ID: 1}}}, "option_invalid"),
        ({"options": {"request_ids": {str(n): "" for n in range(501)}}}, "option_invalid"),
        ({"options": {"escapes": -(10**9)}}, "option_invalid"),
        ({"options": {"escapes": True}}, "option_invalid"),
        ({"options": {"escapes": "7"}}, "option_invalid"),
        ({"options": {"replay_of": 10**30}}, "option_invalid"),
        ({"options": {"first_failed_at": "yesterday"}}, "option_invalid"),
        ({"options": {"first_failed_at": "2026-01-02T03:04:05"}}, "option_invalid"),
        ({"options": {"first_failed_at": "0001-01-01T00:00:00+14:00"}}, "option_invalid"),
        ({"options": {"first_failed_at": 0}}, "option_invalid"),
    ],
    ids=str,
)
def test_each_check_refuses_with_its_code(fields, code):
    assert refusal(body_of(envelope(**fields))).code == code


@pytest.mark.parametrize("name", DRAMATIQ_OPTIONS)
def test_no_option_that_dramatiq_reads_is_accepted(name):
    for value in (None, FAR_ETA_MS, "x", [], {}):
        assert refusal(body_of(envelope(options={name: value}))).detail == f"The option `{name}` is not allowed."


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "it is not JSON in UTF-8"),
        (b"\xff", "it is not JSON in UTF-8"),
        (json.dumps(envelope()).encode("utf-16"), "it is not JSON in UTF-8"),
        (body_of(envelope())[:-1], "it is not JSON in UTF-8"),
        (body_of(envelope(message_timestamp=float("nan"))), "it is not JSON in UTF-8"),
        (body_of(envelope()).replace(b"1767323045000", b"9" * 5000), "it is not JSON in UTF-8"),
        (body_of(envelope())[:-1] + b',"queue_name":"payments"}', "a name occurs twice"),
        (body_of(envelope()).replace(b'{"ids":', b'{"ids":[],"ids":'), "a name occurs twice"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_no_body_that_can_be_read_in_two_ways_is_read(body, detail):
    found = refusal(body)
    assert (found.code, found.detail) == ("undecodable", f"The body cannot be read: {detail}.")


def test_a_large_body_is_refused_unread():
    found = refusal(b"{" * (MAX_MESSAGE_BYTES + 1))
    assert (found.code, found.detail) == (
        "message_too_large",
        "The message has 262145 bytes; at most 262144 are allowed.",
    )


def test_a_reason_quotes_names_and_no_other_value():
    assert "`nobodys`" in refusal(body_of(envelope(queue_name="nobodys"))).detail
    for value in ("4111 1111 1111 1111", "a\nb", "x" * 65, {"a": 1}):
        assert "(not shown here)" in refusal(body_of(envelope(queue_name=value))).detail


def test_the_bounds_themselves_are_accepted():
    longest = {"escapes": MAX_ESCAPES, "replay_of": MAX_ROW_ID, "request_id": "r" * 128}
    moment = (datetime(2026, 1, 2, tzinfo=UTC) + timedelta(microseconds=1)).isoformat()
    options = {**longest, "first_failed_at": moment, "request_ids": {str(n): "r" for n in range(500)}}
    body = body_of(envelope(options=options, kwargs={"ids": [ID] * 500}))
    assert read_message(body, queue="payments").options == options
