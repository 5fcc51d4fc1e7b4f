"""Payments by message: the rules of the API, and for each message that breaks one a dead letter that says which."""

import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections, transaction
from django.utils import timezone

from merchants.models import Merchant
from messaging import collector, resolutions
from messaging.consumer import Delivery, TryAgain
from messaging.models import DeadLetter, Heartbeat, OutboxMessage, Resolution
from messaging.relay import to_envelope
from messaging.selections import Selection
from payments import intake, messages, transitions
from payments.models import IdempotencyKey, Payment, PaymentEvent
from payments.operations import accept
from payments.states import Status
from payments.velocity import blocks_in_force
from tests.decisions import resolve
from tests.outbox import work

pytestmark = pytest.mark.django_db(transaction=True)
#: See tests/doors.py.
BOTH_DOORS = True

QUEUE = settings.INTAKE_QUEUE
CARD = "4111 1111 1111 1111"
#: What may stand in a message and must be found in no log line, detail or traceback.
CANARY = "canary-9f3c1e"


@pytest.fixture(autouse=True)
def _default_merchant(settings, merchant):
    settings.INTAKE_DEFAULT_MERCHANT = merchant.slug


def body_of(key="key-1", **fields):
    """A message: that of a payment over 10.00, but for these fields; None leaves one out."""
    message = {"idempotency_key": key, "amount": "10.00", **fields}
    return json.dumps({name: value for name, value in message.items() if value is not None}).encode()


def receive(body=None, /, *, message_id="", headers=None, correlation_id="", **fields):
    """Hand one message to intake."""
    intake.receive(
        Delivery(
            queue=QUEUE,
            body=body_of(**fields) if body is None else body,
            message_id=message_id,
            headers=headers or {},
            correlation_id=correlation_id,
        )
    )


def the_letter(cause):
    """The only dead letter, which has this cause; and nothing else was stored."""
    letter = DeadLetter.objects.get()
    assert (letter.cause, letter.queue, letter.actor, letter.state) == (cause, QUEUE, "", "open"), letter.detail
    return letter


def assert_no_payment():
    for model in (Payment, IdempotencyKey, PaymentEvent, OutboxMessage):
        assert not model.objects.exists(), model


def succeed(payment):
    with transaction.atomic():
        transitions.move(payment, Status.PROCESSING, now=timezone.now())
        transitions.move(payment, Status.SUCCEEDED, now=timezone.now(), amount_captured=payment.amount)


# --- what is accepted


def test_a_message_becomes_the_payment_it_asks_for(merchant, other_merchant):
    receive(
        body_of(
            amount=1234.5,
            currency="USD",
            merchant="other",
            order_id="o-1",
            user_id="u-1",
            description="d",
            metadata={"a": "b"},
            payment_method="pm_slow",
            capture="automatic",
            webhook_url="https://example.com/hook",
            mode="test",
        )
    )
    payment = Payment.objects.get()
    assert (payment.merchant, payment.mode, payment.status) == (other_merchant, "test", "pending")
    assert (payment.amount, payment.currency, payment.order_id, payment.user_id) == (123_450, "USD", "o-1", "u-1")
    assert (payment.description, payment.metadata, payment.payment_method) == ("d", {"a": "b"}, "pm_slow")
    assert payment.webhook_url == "https://example.com/hook"
    assert work().get().payload == {"ids": [str(payment.pk)]}
    assert not DeadLetter.objects.exists()


def test_only_key_and_amount_are_needed(merchant):
    receive(body_of())
    payment = Payment.objects.get()
    assert (payment.merchant, payment.currency, payment.mode) == (merchant, "EUR", "test")
    assert payment.payment_method == "pm_ok"


def test_null_counts_as_absent():
    receive(json.dumps(dict.fromkeys(messages.PaymentInitiatedSerializer().fields) | {
        "idempotency_key": "key-1", "amount": 10
    }).encode())  # fmt: skip
    assert Payment.objects.get().amount == 1000


def test_a_transient_failure_is_simulated_by_the_sandbox():
    receive(simulate_transient_failure=True)
    assert Payment.objects.get().payment_method == "pm_flaky_2"


def test_a_duplicate_changes_nothing():
    for message_id in ("a", "a", "b", ""):
        receive(message_id=message_id)
    receive(body_of(amount=10))  # the same amount, written otherwise
    assert Payment.objects.count() == PaymentEvent.objects.count() == work().count() == 1
    assert not DeadLetter.objects.exists()


def test_twins_at_once_make_one_payment():
    def one(_):
        try:
            receive()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    assert Payment.objects.count() == 1
    assert not DeadLetter.objects.exists()


FULL = {
    "amount": "10.00",
    "currency": "EUR",
    "order_id": "o-1",
    "user_id": "u-1",
    "description": "Zwei Bücher",
    "metadata": {"a": "b"},
    "payment_method": "pm_slow",
    "capture": "automatic",
    "webhook_url": "https://example.com/hook",
}


@pytest.mark.parametrize("fields", [{"amount": 10}, FULL, {**FULL, "merchant": "shop", "mode": "test"}])
@pytest.mark.parametrize("message_first", [True, False])
def test_the_same_request_by_message_and_by_rest_is_never_charged_twice(post, message_first, fields):
    by_rest = {name: value for name, value in fields.items() if name not in {"merchant", "mode"}}
    if message_first:
        receive(body_of(**fields))
    response = post(by_rest)
    assert response.status_code == 202, response.content
    assert ("Idempotent-Replayed" in response) == message_first
    if not message_first:
        receive(body_of(**fields))
    assert str(Payment.objects.get().pk) == response.json()["id"]
    assert not DeadLetter.objects.exists()


def test_a_simulated_failure_and_its_payment_method_are_the_same_request(post):
    receive(simulate_transient_failure=True)
    assert "Idempotent-Replayed" in post({"amount": 10, "payment_method": "pm_flaky_2"})


# --- what is refused


@pytest.mark.parametrize(
    ("cause", "body", "told"),
    [
        ("not_json", b"", "not valid JSON"),
        ("not_json", b"hello", "not valid JSON"),
        ("not_json", b"\xff\xfe\x00", "not UTF-8"),
        ("not_json", b"[]", "no object"),
        ("not_json", b"null", "no object"),
        ("not_json", b'"amount"', "no object"),
        ("not_json", b'{"amount": 1, "amount": 2}', "same name twice"),
        ("not_json", b'{"idempotency_key": "k", "amount": "\\ud800"}', "surrogate"),
        ("not_json", b'{"idempotency_key": "\xed\xa0\x80"}', "not UTF-8"),
        ("not_json", b"[" * 10_000, "nested too deeply"),
        ("not_json", b'{"a":' * 10_000, "nested too deeply"),
        ("not_json", b'{"amount": ' + b"9" * 5000 + b"}", "far too many digits"),
        ("not_json", b"\x00" * 100, "not valid JSON"),
        ("too_large", b"\x00\xff" * 2**19, "65536 bytes"),
        ("too_large", b'{"amount": 1' + b" " * 2**20 + b"}", "65536 bytes"),
        ("idempotency_key_missing", b"{}", "`idempotency_key`"),
        ("idempotency_key_missing", body_of(key=None), "`idempotency_key`"),
        ("idempotency_key_invalid", body_of(key=""), "1 to 255"),
        ("idempotency_key_invalid", body_of(key="a b"), "1 to 255"),
        ("idempotency_key_invalid", body_of(key="k\0"), "1 to 255"),
        ("idempotency_key_invalid", body_of(key=["k"]), "1 to 255"),
        ("idempotency_key_invalid", body_of(key="k" * 256), "1 to 255"),
        ("merchant_unknown", body_of(merchant="nobody"), "`merchant`"),
        ("merchant_unknown", body_of(merchant="a\0b"), "`merchant`"),
        ("merchant_unknown", body_of(merchant=5), "`merchant`"),
        ("merchant_unknown", body_of(merchant={}), "`merchant`"),
        ("invalid", body_of(merchant=""), "merchant: Name a merchant"),
        ("invalid", body_of(amount=None), "amount: This field is missing."),
        ("invalid", body_of(amount="ten"), "amount: An amount is a decimal number"),
        ("invalid", body_of(amount=-1), "amount: An amount is above 0"),
        ("invalid", body_of(amount=10.001), "amount: EUR has 2 decimals"),
        ("invalid", body_of(amount=True), "amount: "),
        ("invalid", b'{"idempotency_key": "k", "amount": NaN}', "amount: "),
        ("invalid", b'{"idempotency_key": "k", "amount": 1e999999}', "amount: "),
        ("invalid", body_of(currency="eur"), "currency: This is not a currency"),
        ("invalid", body_of(mode="real"), "mode: The mode is `test` or `live`."),
        ("invalid", body_of(amuont=1), "amuont: There is no such field."),
        ("invalid", body_of(description="a\0b"), "description: Character 2 is U+0000 NULL"),
        ("invalid", body_of(metadata={"a": {}}), "metadata: This must be a string"),
        ("invalid", body_of(metadata=dict.fromkeys(map(str, range(51)), "")), "metadata: At most 50 pairs."),
        ("invalid", body_of(description=f"pay with {CARD}"), "description: This looks like a card number"),
        ("invalid", body_of(simulate_transient_failure="perhaps"), "simulate_transient_failure: "),
        (
            "invalid",
            body_of(simulate_transient_failure=True, payment_method="pm_ok"),
            "simulate_transient_failure: It takes the place of a payment_method",
        ),
        (
            "invalid",
            body_of(simulate_transient_failure=True, mode="live"),
            "simulate_transient_failure: Nothing is simulated in live mode.",
        ),
        ("no_live_gateway", body_of(mode="live", payment_method="pm_1"), "`mode`"),
    ],
)  # fmt: skip
def test_a_message_that_is_wrong_is_buried_at_once_and_says_why(cause, body, told):
    receive(body)
    letter = the_letter(cause)
    assert told in letter.detail
    assert letter.body_size == len(body)
    assert letter.traceback == ""
    assert_no_payment()


def test_all_faults_are_told_at_once():
    receive(amount="x", currency="y", mode="z", webhook_url="w")
    told = the_letter("invalid").detail
    assert all(f"{name}: " in told for name in ("amount", "currency", "mode", "webhook_url")), told


def test_a_live_message_without_a_payment_method_is_refused(settings):
    settings.GATEWAYS = {**settings.GATEWAYS, "real": {**settings.GATEWAYS["sandbox"], "MODE": "live"}}
    receive(mode="live")
    assert "payment_method" in the_letter("payment_method_required").detail
    assert_no_payment()


def test_without_a_default_a_message_must_name_its_merchant(settings):
    settings.INTAKE_DEFAULT_MERCHANT = ""
    receive()
    assert "INTAKE_DEFAULT_MERCHANT" in the_letter("invalid").detail
    assert_no_payment()


def test_an_inactive_merchant_takes_no_payments(merchant):
    Merchant.objects.update(is_active=False)
    receive()
    the_letter("merchant_inactive")
    assert_no_payment()


def test_no_message_is_above_the_ceiling_of_its_merchant(merchant):
    merchant.amount_ceilings = {"EUR": "10.00"}
    merchant.save()
    receive(amount="10.01")
    assert "10.00 EUR" in the_letter("above_ceiling").detail
    assert_no_payment()


def test_a_key_with_other_values_is_never_charged():
    receive()
    receive(body_of(amount="11.00"))
    assert "`idempotency_key`" in the_letter("idempotency_key_reused").detail
    assert Payment.objects.get().amount == 1000


def test_an_order_is_never_charged_twice():
    receive(key="first", order_id="o-1")
    receive(key="second", order_id="o-1")
    payment = Payment.objects.get()
    letter = the_letter("order_payment_active")
    assert str(payment.pk) in letter.detail
    assert letter.subject == "", "resolving it would resolve the other payment"
    succeed(payment)
    receive(key="third", order_id="o-1")
    assert DeadLetter.objects.latest("id").cause == "order_already_paid"
    assert Payment.objects.count() == 1


def test_a_message_that_comes_again_has_one_dead_letter():
    for _ in range(3):
        receive(b"garbage", message_id="m-1")
    the_letter("not_json")
    receive(b"garbage", message_id="m-2")
    assert DeadLetter.objects.count() == 2


def test_a_message_id_that_is_the_same_for_all_hides_no_message():
    receive(b"garbage", message_id="0")
    receive(b"other garbage", message_id="0")
    assert DeadLetter.objects.count() == 2


@pytest.mark.parametrize("state", ["discarded", "replayed"])
def test_an_equal_message_does_not_vanish_behind_a_letter_that_is_closed(state):
    for _ in range(3):
        receive(b"garbage")
        receive(b"garbage")
        DeadLetter.objects.filter(state="open").update(state=state, resolved_at=timezone.now())
    assert DeadLetter.objects.count() == 3


def test_a_message_that_rabbitmq_gave_up_after_it_was_buried_has_one_letter():
    receive(b"garbage", message_id="m-1")
    collector.collect(Delivery(queue=f"{QUEUE}.XQ", body=b"garbage", message_id="m-1"))
    the_letter("not_json")


# --- trouble and defects


def test_a_database_that_is_away_buries_nothing():
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(OperationalError):
        receive()
    connection.close()
    assert not DeadLetter.objects.exists()
    receive()
    assert Payment.objects.count() == 1


def test_a_letter_that_cannot_be_written_acknowledges_nothing():
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(OperationalError):
        receive(b"garbage")
    connection.close()
    receive(b"garbage")
    the_letter("not_json")


LOCK_TABLE = "LOCK TABLE payments_idempotencykey IN EXCLUSIVE MODE"
#: Another request with the key of `receive`, which has not committed.
INSERT_KEY = """
    INSERT INTO payments_idempotencykey (merchant_id, key, fingerprint, status_code, body, location)
    SELECT id, %s, '', 202, '', '' FROM merchants_merchant
"""


@pytest.mark.parametrize(
    ("limit", "lock", "raised"),
    [
        ("lock_timeout", INSERT_KEY, TryAgain),
        ("lock_timeout", LOCK_TABLE, OperationalError),
        ("statement_timeout", LOCK_TABLE, OperationalError),
    ],
)
def test_a_message_that_only_has_to_wait_is_not_buried(merchant, limit, lock, raised):
    """Only a lock on the message's own key is reported as the key being in use."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET {limit} = '100ms'")
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(lock, ["key-1"] if "%s" in lock else [])
        given_up = None
        try:
            receive()
        except (TryAgain, OperationalError) as error:
            given_up = type(error)
        assert given_up is raised, "it was buried"
    finally:
        other.rollback()
        other.close()
        connection.close()
    assert not DeadLetter.objects.exists()
    receive()
    assert Payment.objects.count() == 1


def test_a_defect_of_ours_holds_up_no_other_message_and_tells_where(monkeypatch):
    def defect(*_args, **_kwargs):
        raise LookupError(CANARY)

    monkeypatch.setattr(accept, "insert_or_replay", defect)
    receive(description=CANARY)
    letter = the_letter("LookupError")
    assert "defect" in letter.detail
    assert "accept.py" in letter.traceback
    assert CANARY not in letter.detail + letter.traceback
    monkeypatch.undo()
    receive(key="key-2")
    assert Payment.objects.count() == 1


# --- many at once


def deliver(*bodies):
    """Hand several messages to intake at once; which of them it has settled, by their places."""
    deliveries = [Delivery(queue=QUEUE, body=body, tag=place) for place, body in enumerate(bodies)]
    return intake.receive_together(deliveries), deliveries


def test_messages_that_come_together_are_accepted_by_one_statement(django_assert_num_queries):
    blocks_in_force.renew()  # once a second
    with django_assert_num_queries(5):  # BEGIN and COMMIT, the merchant, and the notification
        settled, _ = deliver(*(body_of(key=f"key-{number}", order_id=f"o-{number}") for number in range(20)))
    assert settled == set(range(20))
    assert Payment.objects.count() == work().count() == 20


def test_of_messages_that_come_together_those_that_are_wrong_are_left_and_meet_their_own_fate():
    receive(key="old", order_id="taken")
    bodies = [
        body_of(key="new-1"),
        b"garbage",
        b"[]",
        body_of(key="old", order_id="taken"),
        body_of(key="old", order_id="taken", amount="11.00"),
        body_of(key="new-2", order_id="taken"),
        body_of(key="new-1"),
        body_of(key="new-3", merchant="nobody"),
        body_of(key="new-4", amount="-1"),
        body_of(key=None),
        body_of(key="new-5", mode="live", payment_method="pm"),
        body_of(key="new-6"),
    ]
    with structlog.testing.capture_logs() as lines:
        settled, deliveries = deliver(*bodies)
    assert settled == {0, 3, 11}
    assert sorted(line["event"] for line in lines) == ["message_accepted", "message_accepted", "message_duplicate"]
    assert not DeadLetter.objects.exists(), "nothing is buried before it was looked at alone"
    for delivery in deliveries:
        if delivery.tag not in settled:
            intake.receive(delivery)
    assert sorted(DeadLetter.objects.values_list("cause", flat=True)) == sorted(
        [
            "not_json",
            "not_json",
            "idempotency_key_reused",
            "order_payment_active",
            "merchant_unknown",
            "invalid",
            "idempotency_key_missing",
            "no_live_gateway",
        ]
    )
    assert Payment.objects.count() == 3
    assert IdempotencyKey.objects.get(key="new-1").replays == 1


def test_a_database_that_is_away_settles_none_of_a_list():
    with connection.cursor() as cursor, pytest.raises(OperationalError):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(OperationalError):
        deliver(body_of(key="a"), body_of(key="b"))
    connection.close()
    assert deliver(body_of(key="a"), body_of(key="b"))[0] == {0, 1}


# --- what is told of it


FIELDS = list(messages.PaymentInitiatedSerializer().fields)


@pytest.mark.parametrize("shape", [str, lambda text: [text], lambda text: {text: text}, lambda text: {"a": [text]}])
@pytest.mark.parametrize("name", [*FIELDS, f"{CANARY}@x", "metadata", "unknown"])
def test_no_value_of_a_message_is_told_in_a_letter_or_a_log(name, shape, capsys):
    receive(**{"key": "key-1", name: shape(CANARY)} if name != "idempotency_key" else {"key": shape(CANARY)})
    receive(key="key-2", description=CANARY, user_id=CANARY, metadata={CANARY: CANARY})
    told = capsys.readouterr()
    letters = [f"{letter.detail}{letter.traceback}{letter.cause}" for letter in DeadLetter.objects.all()]
    assert CANARY not in "".join([*letters, told.out, told.err])


@pytest.mark.parametrize(
    "body",
    [CANARY, f'{{"{CANARY}', f'{{"a": "\\{CANARY}"}}', f'{{"a": 1{CANARY}}}', f'{{"{CANARY}": 1, "{CANARY}": 2}}'],
)
def test_nothing_of_a_body_that_cannot_be_read_is_told(body):
    receive(body.encode())
    letter = the_letter("not_json")
    assert CANARY not in letter.detail + letter.traceback


@pytest.mark.parametrize("value", ["SEC", "SECRET", "SECRET-9"])
def test_no_short_value_is_told_either(value):
    for name in FIELDS:
        receive(**{"key": f"{value} !"} if name == "idempotency_key" else {"amount": "x", name: value})
    details = list(DeadLetter.objects.values_list("detail", flat=True))
    assert len(details) == len(FIELDS)
    assert value not in "".join(details)


@pytest.mark.parametrize(
    "fields",
    [
        {"description": f"pay with {CARD}, please"},
        {"payment_method": CARD.replace(" ", "")},
        {"metadata": {"card": CARD.replace(" ", "-"), "other": "kept"}},
        {"description": CARD, "merchant": "nobody"},
        {"description": CARD, "amount": "x"},
    ],
)
def test_no_card_number_is_ever_stored(fields):
    receive(order_id="order-1", **fields)
    letter = DeadLetter.objects.get()
    kept = json.loads(letter.body)
    assert kept["order_id"] == "order-1"
    for text in (json.dumps(kept), letter.detail):
        assert not any(form in text for form in (CARD, CARD.replace(" ", ""), CARD.replace(" ", "-")))
    assert_no_payment()


def test_what_has_no_card_number_is_kept_byte_for_byte():
    body = b' {"amount":  1.50, "colour": "red",\n"order_id": "4111111111111111"} '
    receive(body)
    assert bytes(DeadLetter.objects.get().body) == body


def test_each_message_is_one_line_in_the_log():
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        receive(headers={"request_id": "r-1"})
        receive(headers={"request_id": "r-2"})
        receive(b"garbage", headers={"request_id": "r-3"})
    payment = Payment.objects.get()
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("message_accepted", "r-1"), ("message_duplicate", "r-2"), ("dead_letter", "r-3"),
    ]  # fmt: skip
    assert [line.get("payment_id") for line in lines] == [str(payment.pk), str(payment.pk), None]
    assert lines[2]["cause"] == "not_json"
    assert "request_id" not in structlog.contextvars.get_contextvars()


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "correlation_id", "expected"),
    [
        ({"request_id": "r-1"}, "c-1", "r-1"),
        ({"request_id": "r 1"}, "c-1", "c-1"),
        ({"request_id": 7}, "c-1", "c-1"),
        ({}, "c-1", "c-1"),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, "c 1", TRACE),
        ({"traceparent": b"\xff"}, "", None),
        ({}, "forged\nline", None),
    ],
)
def test_the_senders_request_id_is_kept_where_it_is_sound(headers, correlation_id, expected):
    receive(headers=headers, correlation_id=correlation_id)
    receive(b"garbage", headers=headers, correlation_id=correlation_id)
    ids = {Payment.objects.get().request_id, DeadLetter.objects.get().request_id}
    assert ids == {expected} if expected else len(ids) == 2 and all(len(id_) == 32 for id_ in ids)


# --- replay


def replay(letter):
    """Decide on a letter, work it off, and hand what the relay would publish to intake."""
    decided = resolve(Selection(ids=(letter.pk,)), Resolution.Action.REPLAY, reason="mended", by="ada")
    done = resolutions.work_off(decided.pk)
    assert (done.replayed, done.blocked) == (1, 0)
    row = work().get(actor="")
    envelope = to_envelope([row])
    row.delete()
    assert (envelope.exchange, envelope.routing_key) == ("", QUEUE)
    receive(envelope.body, message_id=envelope.message_id, headers=envelope.headers)
    letter.refresh_from_db()
    assert letter.state == "replayed"


def test_a_replay_after_the_cause_is_mended_makes_the_payment(merchant):
    receive(merchant="new-shop", headers={"request_id": "r-1"})
    letter = the_letter("merchant_unknown")
    Merchant.objects.create(slug="new-shop", name="New", currency="EUR")
    replay(letter)
    payment = Payment.objects.get()
    assert (payment.merchant.slug, payment.amount, payment.request_id) == ("new-shop", 1000, "r-1")
    assert DeadLetter.objects.count() == 1
    receive(merchant="new-shop")  # and its sender sends it once more
    assert Payment.objects.count() == 1


def test_a_replay_that_dies_again_is_a_letter_that_knows_the_first():
    receive(merchant="nobody")
    first = the_letter("merchant_unknown")
    replay(first)
    second = DeadLetter.objects.get(state="open")
    assert (second.cause, second.previous) == ("merchant_unknown", first)
    assert_no_payment()


@pytest.mark.parametrize("replay_of", [True, "1", 2**62, -1, None, [1]])
def test_a_forged_header_of_a_replay_does_no_harm(replay_of):
    receive(b"garbage", headers={"replay_of": replay_of})
    assert the_letter("not_json").previous is None


# --- the process


def test_without_rabbitmq_the_command_says_the_mend(settings):
    settings.ENV = type("Env", (), {"rabbitmq_url": ""})()
    with pytest.raises(CommandError, match="RABBITMQ_URL"):
        call_command("intake")


def test_its_consumer_reads_the_queue_and_nothing_else():
    made = intake.make(os.environ["RABBITMQ_URL"])
    assert (made.name, list(made.declare), list(made.read), made.entrance) == ("intake", [QUEUE], [QUEUE], QUEUE)


def test_health_speaks_of_intake_only_where_it_was_started(client):
    def part():
        return client.get("/health").json()["parts"].get("intake")

    assert part() is None
    beat = Heartbeat.objects.create(process="intake", instance=str(uuid.uuid4()), beat_at=timezone.now())
    assert part() == {"status": "healthy"}
    Heartbeat.objects.update(beat_at=timezone.now() - timezone.timedelta(minutes=1))
    assert part() == {
        "status": "unhealthy",
        "detail": "No intake has shown itself lately; start `manage.py intake`.",
    }
    beat.delete()
    assert part() is None
