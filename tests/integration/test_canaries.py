"""A canary in every field of every request: what is secret or personal turns up in no log, message or metric."""

import json
import logging
import re
from itertools import count

import pytest
import structlog
import yaml
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from messaging import escapes, relay, subscribers
from messaging.models import DeadLetter, OutboxMessage
from messaging.publisher import Published
from notifications import messages
from notifications.models import Delivery
from payments.models import Payment
from payments.operations import process_payments
from tests import matrix
from tests.canaries import leaks_in
from tests.log_lines import LogLines
from tests.outbox import announcements, work

SPECIFICATION = yaml.safe_load((django_settings.BASE_DIR / "openapi.yaml").read_text())
#: In every canary.
SONG = "c4nary"
#: Canaries that have the shape that their field wants, so that they get further than its validation.
EMAIL, PHONE, HOOK = f"{SONG}.mail@example.com", "+4915199887766", f"https://shop.example/{SONG}?token={SONG}"
PAYMENT = {
    "amount": "12.34",
    "currency": "EUR",
    "user_id": "payer-7",
    "order_id": "order-7",
    "description": f"{SONG} description",
    "metadata": {f"{SONG} name": f"{SONG} value"},
    "payment_method": f"pm_ok_{SONG}",
    "receipt_email": EMAIL,
    "receipt_phone": PHONE,
    "webhook_url": HOOK,
}
#: What is documented in docs/events.md, and nothing more.
TOLD = {
    "id", "status", "amount", "amount_captured", "amount_refunded", "currency", "order_id", "user_id", "attempts",
    "created_at", "finished_at", "last_error", "version",
}  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)
#: See tests/doors.py.
BOTH_DOORS = True


@pytest.fixture
def lines():
    """All log lines, as LOG_FORMAT=json and LOG_FORMAT=console write them."""
    texts = []
    heard = LogLines(lambda _logger, line: texts.append(line))
    heard.attach()
    yield lambda: "\n".join(texts)
    heard.detach()


def silent(text):
    """Assert that no canary sings in a text."""
    for secret in (SONG, PHONE, PHONE[1:]):
        assert secret not in text, text[max(0, text.index(secret) - 300) : text.index(secret) + 100]


def planted(schema, numbers, path=""):
    """A document of the schema with a canary in every leaf, whatever type the leaf wants."""
    schema = resolve(schema)
    if "properties" in schema:
        return {name: planted(inner, numbers, f"{path}.{name}") for name, inner in schema["properties"].items()}
    if schema.get("type") == "array":
        return [planted(schema.get("items", {}), numbers, path)]
    if "additionalProperties" in schema:
        return {f"{SONG}-{next(numbers)}": f"{SONG}-{next(numbers)}"}
    return f"{SONG}-{next(numbers)}"


def resolve(schema):
    while "$ref" in schema:
        schema = SPECIFICATION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for combined in ("allOf", "oneOf", "anyOf"):
        if combined in schema and "properties" not in schema:
            return resolve(schema[combined][0])
    return schema


def operations():
    """(method, path, operation) of all that is documented."""
    for path, methods in SPECIFICATION["paths"].items():
        for method, operation in methods.items():
            if method in {"get", "post", "put", "patch", "delete"}:
                yield method, path, operation


@pytest.mark.parametrize(
    ("method", "path", "operation"), [*operations()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_request_to_any_address_leaves_a_canary_in_a_log(client, lines, method, path, operation):
    numbers = count()
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    document = planted(body, numbers) if body else {SONG: SONG}
    names = [given["name"] for given in operation.get("parameters", []) if given["in"] == "query"]
    uuid = "0199f3a2-5b07-7e31-8a44-90d1c2b7e6f5"
    address = re.sub(r"\{user_id\}", SONG, path)
    address = re.sub(r"\{(letter_id|resolution_id)\}|\{\w+\}", lambda found: "7" if found[1] else uuid, address)
    query = "&".join(f"{name}={SONG}" for name in (*names, SONG))
    headers = {"Idempotency-Key": "key-1", "Cookie": f"sessionid={SONG}", "Referer": f"https://x/?{SONG}"}
    send = {"content_type": "application/json", "headers": headers}
    anybody = Client(headers={"x-api-key": f"sk_test_{SONG}"}, raise_request_exception=False)
    for who in (client, anybody):
        for data in (json.dumps(document), json.dumps([document]), json.dumps(SONG), f'{{"{SONG}'):
            answer = who.generic(method.upper(), f"{address}?{query}", data, **send)
            assert answer.status_code < 500, answer.content
    silent(lines())


def test_every_documented_address_is_tried():
    documented = {re.sub(r"\{\w+\}", "{}", path).removeprefix("/") for path in SPECIFICATION["paths"]}
    known = {re.sub(r"\{\w+\}", "{}", address.path) for address in matrix.api() if address.name not in HIDDEN}
    assert documented == known


#: Addresses that are not in the documentation: gateways know theirs, and the documentation is not its own subject.
HIDDEN = {"gateway", "schema"}


def test_a_payment_leaves_no_canary_on_its_whole_way(post, sandbox, lines, client, settings, mailoutbox):
    settings.EMAIL_ON = True
    put(
        client,
        "/api/v1/notification-preferences",
        {"email": {"payer": {"event_types": ["payment.succeeded", "payment.failed"]}}},
    )
    put(client, "/api/v1/contacts/payer-7", {"email": EMAIL, "phone": PHONE})
    made = post(PAYMENT)
    assert made.status_code == 202, made.content
    payment = Payment.objects.get()
    assert [row.payload for row in work()] == [{"ids": [str(payment.pk)]}]
    broker = Taps()
    relay.run_once(broker)
    process_payments(payment_ids=[payment.pk])
    announced = [json.loads(bytes(row.body)) for row in announcements()]
    for event in announced:
        assert event["data"].keys() == TOLD, "say in docs/events.md what else is told"
    silent(json.dumps(announced))
    while relay.run_once(broker) or subscribers.run_once("notifications"):
        pass
    for delivery in Delivery.objects.filter(channel="email"):
        messages.deliver(delivery.pk)
    assert mailoutbox
    relay.run_once(broker)
    silent(" ".join(broker.bodies))
    silent(metrics())
    silent(lines())


def put(client, path, body):
    answer = client.put(path, body, content_type="application/json")
    assert answer.status_code in {200, 201}, answer.content


class Taps:
    """A broker that confirms everything, and keeps what it was given."""

    def __init__(self):
        self.bodies = []

    def publish(self, envelopes):
        self.bodies += [f"{envelope.body.decode()} {envelope.headers}" for envelope in envelopes]
        return Published(confirmed={envelope.message_id for envelope in envelopes})


def metrics():
    answer = Client(headers={"authorization": f"Bearer {django_settings.METRICS_TOKEN}"}).get("/metrics")
    assert answer.status_code == 200
    return answer.content.decode()


def broken(table, column):
    """The database refuses rows of the table, and quotes them."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK ({column} IS NULL) NOT VALID")


@pytest.fixture
def _mended():
    yield
    with connection.cursor() as cursor:
        for table in ("payments_payment", "notifications_contact", "notifications_webhookendpoint"):
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS broken")


@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize(
    ("table", "method", "path", "body"),
    [
        ("payments_payment", "post", "/payments", PAYMENT),
        ("notifications_contact", "put", "/contacts/payer-7", {"email": EMAIL, "phone": PHONE}),
        ("notifications_webhookendpoint", "post", "/webhook-endpoints", {"url": HOOK, "description": SONG}),
    ],
)
def test_a_500_tells_neither_logs_nor_callers_what_was_in_the_row(client, lines, table, method, path, body):
    broken(table, "id" if table != "notifications_contact" else "email")
    headers = {"Idempotency-Key": "k"}
    answer = getattr(client, method)(f"/api/v1{path}", body, content_type="application/json", headers=headers)
    assert answer.status_code == 500
    silent(answer.content.decode())
    assert "IntegrityError" in lines(), "the traceback is what people need"
    silent(lines())


def test_a_dead_letter_of_a_broken_database_tells_no_row(post, lines, monkeypatch):
    post(PAYMENT)
    payment = Payment.objects.get()
    broken("payments_payment", "description")
    try:
        Payment.objects.filter(pk=payment.pk).update(version=2)
    except Exception as error:  # noqa: BLE001
        failure = error
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE payments_payment DROP CONSTRAINT broken")
    monkeypatch.setattr(escapes, "LIMIT", 1)
    row = OutboxMessage.objects.filter(exchange="", subscriber="").get()
    escapes.handle_escape(relay.to_message([row]), failure, now=timezone.now())
    letter = DeadLetter.objects.get()
    assert letter.cause == "IntegrityError"
    silent(json.dumps([letter.detail, letter.traceback, letter.payload], default=str))
    silent(lines())


# --- the watch over all tests is itself tested


@pytest.mark.parametrize(
    "told",
    [
        {"event": "used", "key": "sk_live_0123456789abcdefghij"},
        {"event": "sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"},
        {"event": "rotated", "nested": {"secret": ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"]}},
        {"event": django_settings.ENV.jwt_signing_key},
        {"event": b"sk_live_0123456789abcdefghij"},
        {"event": "codes", "shown": ["abcd-2345-efgh-ijkl"]},
    ],
)
@pytest.mark.parametrize("whose", ["ours", "a library's"])
def test_the_watch_sees_a_secret_in_any_part_of_a_line(watch, told, whose):
    if whose == "ours":
        structlog.get_logger("some.logger").warning(**told)
    else:
        logging.getLogger("some.logger").warning(told)
    json_line, console_line = watch.take()
    for leak in (json_line, console_line):
        assert "some.logger" in leak
        assert "test_the_watch_sees" in leak


def test_the_watch_sees_a_secret_in_a_traceback(watch):
    try:
        raise ValueError("sk_live_0123456789abcdefghij")
    except ValueError:
        logging.getLogger("some.logger").exception("failed")
        structlog.get_logger("some.logger").exception("failed")
    assert len(watch.take()) == 4, "two lines, in two styles"


def test_the_logs_of_other_processes_are_read_to_their_end(tmp_path):
    lines = ["all is well\n"] * 10_000
    (tmp_path / "worker.log").write_text("".join([*lines, "used sk_live_0123456789abcdefghij\n"]))
    (tmp_path / "relay.log").write_text("".join(lines))
    assert leaks_in(tmp_path) == ["worker.log"]


def test_the_name_of_a_key_is_no_secret(watch):
    logging.getLogger("some.logger").warning("key:sk_live_01234567")
    assert watch.take() == []
