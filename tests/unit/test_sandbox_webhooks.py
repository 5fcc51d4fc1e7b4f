"""The sandbox's webhooks: signed, repeated until taken, and never in the way of a charge."""

import asyncio
import base64
import hashlib
import hmac
import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import standardwebhooks

from sandbox.journal import Entry
from sandbox.post import NotTaken, Target, TargetInvalid, post
from sandbox.settings import LiveSettings
from sandbox.waiting import Delivery, Waiting
from sandbox.webhooks import Event, SecretInvalid, Webhooks, read_secret, sign

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ENTRY = Entry(
    seq=1,
    operation="charge",
    idempotency_key="k-1",
    payment_id="p-1",
    merchant="shop",
    order_id="o-1",
    amount=1000,
    currency="EUR",
    outcome="approved",
    reference="ch_00000001",
    decline_code=None,
)
DECLINED = replace(ENTRY, seq=2, reference="ch_00000002", outcome="declined", decline_code="card_declined")
CHARGE = {"payment_id": "p-1", "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}


class Receiver(ThreadingHTTPServer):
    """Stands in for the merchant: answers with the statuses it is given, then with 204."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hooks/sandbox?x=1"
        self.statuses = queue.SimpleQueue()
        self.received = queue.SimpleQueue()

    def next(self):
        """The next webhook that comes in, as (path, headers, body)."""
        return self.received.get(timeout=10)

    def next_event(self):
        return json.loads(self.next()[2])


class ReceiverHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 204 if self.server.statuses.empty() else self.server.statuses.get()
        self.server.received.put((self.path, dict(self.headers), body))
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def settings_of_sandbox():
    return LiveSettings()


@pytest.fixture
def make(receiver, settings_of_sandbox, capfd):
    """Webhooks to the receiver, which retry at once. What they say at the very end is captured still."""
    made = []

    def do(url=None, **options):
        options = {"retry_delays": (0.0,) * 5, **options}
        made.append(Webhooks(Target.parse(url or receiver.url), KEY, settings_of_sandbox, **options))
        return made[-1]

    yield do
    for webhooks in made:
        webhooks.stop()


@pytest.fixture
def webhooks(make):
    made = make()
    made.start()
    return made


# --- what is said


def test_an_approval_is_told_with_every_term_of_the_charge(webhooks, receiver):
    webhooks.tell(ENTRY)
    path, headers, body = receiver.next()
    assert path == "/hooks/sandbox?x=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == f"127.0.0.1:{receiver.server_address[1]}"
    document = json.loads(body)
    created_at = datetime.fromisoformat(document.pop("created_at"))
    assert abs((datetime.now(UTC) - created_at).total_seconds()) < 60
    assert document == {
        "id": "evt_00000001",
        "type": "charge.succeeded",
        "data": {
            "charge": "ch_00000001", "idempotency_key": "k-1", "payment_id": "p-1", "merchant": "shop",
            "order_id": "o-1", "amount": 1000, "currency": "EUR", "status": "approved", "decline_code": None,
        },
    }  # fmt: skip


def test_a_decline_is_told_with_its_reason(webhooks, receiver):
    webhooks.tell(DECLINED)
    document = receiver.next_event()
    assert (document["id"], document["type"]) == ("evt_00000002", "charge.failed")
    assert (document["data"]["status"], document["data"]["decline_code"]) == ("declined", "card_declined")


def test_the_time_of_an_event_is_in_utc():
    now = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    assert json.loads(Event.of(ENTRY, now).body)["created_at"] == "2026-01-02T03:04:05.678Z"


def test_a_repeated_webhook_comes_twice_with_an_outdated_one_in_between(webhooks, receiver):
    webhooks.tell(ENTRY, repeated=True)
    first, outdated, again = (receiver.next() for _ in range(3))
    assert first[2] == again[2]
    assert first[1]["webhook-id"] == again[1]["webhook-id"] == "evt_00000001"
    document = json.loads(outdated[2])
    assert outdated[1]["webhook-id"] == document["id"] == "evt_00000001_pending"
    assert (document["type"], document["data"]["status"]) == ("charge.pending", "pending")


# --- signatures


def test_no_signature_is_other_than_the_standard_says(webhooks, receiver):
    webhooks.tell(ENTRY)
    _, headers, body = receiver.next()
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60


def test_the_standards_own_package_accepts_what_we_send_and_nothing_else(webhooks, receiver):
    webhooks.tell(ENTRY)
    _, headers, body = receiver.next()
    verifier = standardwebhooks.Webhook(SECRET)
    assert verifier.verify(body, headers) == json.loads(body)
    with pytest.raises(Exception, match="No matching signature"):
        verifier.verify(body.replace(b"1000", b"9000"), headers)


def test_the_standards_own_example_is_signed_alike():
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(
        secret, event_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_of_the_standards_size_is_taken(size):
    assert read_secret("whsec_" + base64.b64encode(b"k" * size).decode()) == b"k" * size


@pytest.mark.parametrize(
    "text",
    [
        "", "whsec_", SECRET.removeprefix("whsec_"), "whsec_not base64!", SECRET + "\n", "whsec_é",
        "whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_" + base64.b64encode(b"k" * 65).decode(),
    ],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_with_its_mend(text):
    with pytest.raises(SecretInvalid, match="whsec_ and the base64 of 24 to 64 random bytes"):
        read_secret(text)


# --- retries


@pytest.mark.parametrize("status", [500, 503, 400, 404, 410, 301, 307, 429])
def test_a_webhook_that_is_not_taken_is_sent_again_unchanged(webhooks, receiver, status):
    receiver.statuses.put(status)
    webhooks.tell(ENTRY)
    first, second = receiver.next(), receiver.next()
    assert first[0] == second[0]  # no redirect is followed
    assert first[2] == second[2]
    assert first[1]["webhook-id"] == second[1]["webhook-id"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_webhook_that_is_taken_is_never_sent_again(webhooks, receiver, status):
    receiver.statuses.put(status)
    webhooks.tell(ENTRY)
    webhooks.tell(DECLINED)
    assert [receiver.next_event()["id"] for _ in range(2)] == ["evt_00000001", "evt_00000002"]
    assert receiver.received.empty()


def test_a_webhook_that_nobody_takes_is_given_up_with_one_line(webhooks, receiver, capfd):
    for _ in range(6):
        receiver.statuses.put(500)
    webhooks.tell(ENTRY)
    assert [receiver.next_event()["id"] for _ in range(6)] == ["evt_00000001"] * 6
    webhooks.tell(DECLINED)
    assert receiver.next_event()["id"] == "evt_00000002"
    assert capfd.readouterr().err == ("sandbox: The webhook evt_00000001 was given up after 6 times: HTTP 500.\n")


def test_retries_wait_longer_each_time(make, monkeypatch):
    webhooks = make("http://127.0.0.1:1/", retry_delays=(100.0, 200.0, 400.0))
    waits = []
    monkeypatch.setattr(webhooks, "_put", lambda delivery: waits.append(delivery.due - time.monotonic()))
    delivery = Delivery(due=0.0, number=1, event_id="evt_1", body=b"{}")
    for _ in range(3):
        asyncio.run(webhooks.send(delivery))
    assert waits == pytest.approx([100.0, 200.0, 400.0], abs=10)


def test_a_receiver_that_cannot_be_reached_stops_nobody(make, monkeypatch):
    lines = queue.SimpleQueue()
    monkeypatch.setattr("sandbox.webhooks.say", lines.put)
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    webhooks = make(f"http://127.0.0.1:{port}/", retry_delays=())
    webhooks.start()
    for entry in (ENTRY, DECLINED):
        webhooks.tell(entry)
        assert "given up after 1 times: ConnectionRefusedError" in lines.get(timeout=10)


# --- one POST


@contextmanager
def raw_receiver(answer):
    """Listens, and gives each connection to `answer(connection)`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Target.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(10)


def send_to(target, timeout=5.0):
    asyncio.run(post(target, headers={}, body=b"{}", timeout=timeout))


def test_a_receiver_that_drips_never_holds_a_sending_past_its_deadline():
    stopped = threading.Event()

    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stopped.wait(0.01):
            try:
                connection.sendall(b"X: y\r\n")
            except OSError:
                return

    with raw_receiver(drip) as target:
        with pytest.raises(NotTaken, match=r"no answer within 0\.2 s"):
            send_to(target, timeout=0.2)
        stopped.set()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK", b"\xff\xfe\r\n\r\n", b"SSH-2.0 200 x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X" * 100_000, b"HTTP/1.1 200\x00\r\n\r\n"],
    ids=["nothing", "half a head", "bytes", "another protocol", "no number", "no words", "an endless head", "a NUL"],
)  # fmt: skip
def test_an_answer_that_is_no_answer_is_not_a_success(answer):
    def reply(connection):
        connection.recv(65536)
        try:
            connection.sendall(answer)
        except OSError:
            return

    with raw_receiver(reply) as target, pytest.raises(NotTaken):
        send_to(target)


def test_the_head_of_an_answer_is_enough():
    released = threading.Event()

    def reply(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
        released.wait(10)

    with raw_receiver(reply) as target:
        send_to(target)
        released.set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://shop:8000/hooks", ("shop", 8000, False, "shop:8000", "/hooks")),
        ("https://shop.example", ("shop.example", 443, True, "shop.example", "/")),
        ("http://[::1]:80/?a=b", ("::1", 80, False, "[::1]:80", "/?a=b")),
    ],
)
def test_an_address_is_taken_apart(text, expected):
    target = Target.parse(text)
    assert (target.host, target.port, target.tls, target.authority, target.path) == expected


@pytest.mark.parametrize(
    "text",
    ["", "shop", "ftp://shop/", "http://", "http:///x", "http://shop:99999/", "http://shop:x/", "http://[::1",
     "http://user:word@shop/", "http://shop/a b", "http://shop/é", "http://shop/\r\nX: y"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(TargetInvalid):
        Target.parse(text)


# --- settings


def test_each_copy_is_sent_on_its_own(webhooks, receiver, settings_of_sandbox):
    settings_of_sandbox.change({"webhook_copies": 3})
    webhooks.tell(ENTRY)
    settings_of_sandbox.reset()
    webhooks.tell(DECLINED)
    assert [receiver.next_event()["id"] for _ in range(4)] == ["evt_00000001"] * 3 + ["evt_00000002"]


def test_a_late_webhook_holds_up_no_other(webhooks, receiver, settings_of_sandbox):
    settings_of_sandbox.change({"webhook_delay": 3600})
    webhooks.tell(ENTRY)
    settings_of_sandbox.reset()
    webhooks.tell(DECLINED)
    assert receiver.next_event()["id"] == "evt_00000002"
    assert receiver.received.empty()
    assert len(webhooks._waiting) == 1


def test_no_shuffled_webhook_is_lost_or_sent_twice(make, receiver, settings_of_sandbox):
    settings_of_sandbox.change({"webhook_shuffle": True, "seed": 5})
    webhooks = make()
    for seq in range(1, 41):
        webhooks.tell(replace(ENTRY, seq=seq))
    webhooks.start()
    came = [receiver.next_event()["id"] for _ in range(40)]
    in_order = [f"evt_{seq:08d}" for seq in range(1, 41)]
    assert came != in_order
    assert sorted(came) == in_order


# --- the queue


def delivery(number, due=0.0, failures=0):
    return Delivery(due=due, number=number, event_id=f"evt_{number}", body=b"", failures=failures)


def drain(waiting, now, *, shuffle=False):
    taken = []
    while each := waiting.take(now, shuffle=shuffle):
        taken.append(each.event_id)
    return taken


def test_nothing_is_sent_before_it_is_due_and_equals_keep_their_order():
    waiting = Waiting(10, pick=lambda _: 0)
    assert waiting.next_due() is None
    for each in (delivery(1, due=5.0), delivery(3, due=2.0), delivery(2, due=2.0)):
        waiting.add(each)
    assert waiting.next_due() == 2.0
    assert drain(waiting, 1.9) == []
    assert drain(waiting, 4.9) == ["evt_2", "evt_3"]
    assert drain(waiting, 5.0) == ["evt_1"]


def test_the_oldest_is_dropped_when_there_are_too_many():
    waiting = Waiting(3, pick=lambda _: 0)
    dropped = [waiting.add(delivery(number, due=100.0 - number)) for number in range(1, 6)]
    assert [each and each.event_id for each in dropped] == [None, None, None, "evt_1", "evt_2"]
    assert len(waiting) == 3
    assert drain(waiting, 200.0) == ["evt_5", "evt_4", "evt_3"]


def test_a_dropped_webhook_is_told_in_a_line(make, capfd):
    webhooks = make(max_waiting=1)
    webhooks.tell(ENTRY)
    webhooks.tell(DECLINED)
    assert capfd.readouterr().err == "sandbox: The webhook evt_00000001 was dropped: too many are waiting.\n"


def test_a_shuffle_sends_one_that_waits_in_the_place_of_the_one_that_is_due():
    waiting = Waiting(10, pick=lambda count: count - 1)
    waiting.add(delivery(1, due=1.0))
    waiting.add(delivery(2, due=9.0))
    assert drain(waiting, 1.0, shuffle=True) == ["evt_2"]
    assert drain(waiting, 9.0, shuffle=True) == ["evt_1"]


def test_a_shuffle_never_hurries_a_retry():
    waiting = Waiting(10, pick=lambda count: count - 1)
    waiting.add(delivery(1, due=1.0))
    waiting.add(delivery(2, due=9.0, failures=1))
    assert drain(waiting, 1.0, shuffle=True) == ["evt_1"]
    waiting.add(delivery(3, due=10.0))
    assert drain(waiting, 9.0, shuffle=True) == ["evt_2"]


# --- with the gateway


@pytest.fixture
def charge(sandbox, webhooks):
    """Charge at a gateway that tells the receiver; returns the status, or None when there is no answer."""
    sandbox.server.webhooks = webhooks
    sandbox.server.pause = lambda _seconds: None

    def do(method="pm_ok", key="k-1"):
        connection = http.client.HTTPConnection(*sandbox.server.server_address, timeout=10)
        document = json.dumps({**CHARGE, "payment_method": method})
        try:
            connection.request("POST", "/v1/charges", document, {"Idempotency-Key": key})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return response.status

    return do


def test_each_decision_is_told_once_and_no_repetition_of_it(charge, receiver):
    assert [charge(), charge(), charge("pm_declined", "k-2"), charge("pm_declined", "k-2")] == [200, 200, 402, 402]
    charge(key="k-3")
    came = [receiver.next_event() for _ in range(3)]
    assert [(event["id"], event["data"]["idempotency_key"]) for event in came] == [
        ("evt_00000001", "k-1"),
        ("evt_00000002", "k-2"),
        ("evt_00000003", "k-3"),
    ]


@pytest.mark.parametrize("method", ["pm_flaky_2", "pm_rate_limited", "pm_timeout_not_charged", "pm_reset_before"])
def test_what_is_not_decided_is_not_told(charge, receiver, method):
    while charge(method) != 200:
        assert receiver.received.empty()
    assert receiver.next_event()["data"]["idempotency_key"] == "k-1"


@pytest.mark.parametrize("method", ["pm_timeout_charged", "pm_reset", "pm_reset_within", "pm_error_500", "pm_garbage"])
def test_a_gateway_in_trouble_tells_nobody(charge, sandbox, receiver, method):
    charge(method, "k-1")
    assert len(sandbox.charges()) == 1
    charge("pm_ok", "k-2")
    assert receiver.next_event()["data"]["idempotency_key"] == "k-2"


def test_a_duplicate_webhook_goes_out_twice_and_out_of_order(charge, receiver):
    assert charge("pm_duplicate_webhook") == 200
    types = [receiver.next_event()["type"] for _ in range(3)]
    assert types == ["charge.succeeded", "charge.pending", "charge.succeeded"]


def test_a_second_charge_under_a_forgotten_key_is_told_as_another_event(charge, sandbox, receiver):
    sandbox.server.settings.change({"forget_keys": True})
    charge()
    charge()
    assert [receiver.next_event()["id"] for _ in range(2)] == ["evt_00000001", "evt_00000002"]


def test_a_receiver_that_does_not_answer_holds_up_no_charge(sandbox, make):
    reached, released = threading.Event(), threading.Event()

    def hold(connection):
        reached.set()
        released.wait(10)

    with raw_receiver(hold) as target:
        sandbox.server.webhooks = make(f"http://{target.authority}/", retry_delays=())
        sandbox.server.webhooks.start()
        connection = http.client.HTTPConnection(*sandbox.server.server_address, timeout=10)
        for number in range(3):
            document = json.dumps({**CHARGE, "payment_method": "pm_ok"})
            connection.request("POST", "/v1/charges", document, {"Idempotency-Key": f"k-{number}"})
            response = connection.getresponse()
            assert response.status == 200
            response.read()
            assert reached.wait(10)
        connection.close()
        released.set()
        sandbox.server.webhooks.stop()


# --- the process


@pytest.mark.parametrize("secret", [None, "", "whsec_short", "secret"])
def test_a_gateway_without_a_secret_does_not_start_and_says_the_mend_in_one_line(tmp_path, secret):
    environ = {name: value for name, value in os.environ.items() if name != "SANDBOX_WEBHOOK_SECRET"}
    environ |= {} if secret is None else {"SANDBOX_WEBHOOK_SECRET": secret}
    argv = [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(tmp_path), "--webhooks", "http://shop/"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Set SANDBOX_WEBHOOK_SECRET for --webhooks: it must be whsec_")
    assert done.stderr.count("\n") == 1


def test_a_gateway_does_not_start_with_an_address_that_is_none(tmp_path):
    environ = {**os.environ, "SANDBOX_WEBHOOK_SECRET": SECRET}
    argv = [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(tmp_path), "--webhooks", "shop"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == "--webhooks 'shop' cannot be used: it must be like http://host:port/path.\n"
