"""`manage.py sandbox`: a developer sees each webhook at once, hears of a wrong signature, and leaves nothing behind."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from io import StringIO
from queue import Queue
from urllib.parse import urlsplit

import httpx2
import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from standardwebhooks import Webhook

from console.listener_endpoint import DESCRIPTION
from console.triggers import ALIASES, METHODS
from deploy.local.machine import free_port
from merchants.models import Merchant, Mode
from notifications import endpoints
from notifications.models import WebhookEndpoint
from notifications.webhooks.signing import new_secret
from payments.models import Payment
from tests.system import ROOT, System

pytestmark = pytest.mark.django_db(transaction=True)

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
BODY = {
    "type": "payment.succeeded",
    "timestamp": "2026-01-31T12:00:00.000Z",
    "data": {"id": ID, "status": "succeeded", "version": 3},
}


@pytest.fixture
def demo(db):
    return Merchant.objects.create(slug="demo", name="Demo Shop", currency="EUR")


def url_of_the_tests():
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database.settings_dict['NAME']}"


class Listening:
    """`sandbox listen` as a process; its lines as they come."""

    def __init__(self, *arguments, **env):
        url = env.pop("DATABASE_URL", None) or url_of_the_tests()
        argv = [sys.executable, str(ROOT / "manage.py"), "sandbox", "listen", *arguments]
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, "DATABASE_URL": url, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = Queue()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.seen = []

    def begin(self):
        self.url = re.search(r"http://\S+/", self.wait_for("Listening"))[0]

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait_for(self, words):
        while True:
            line = self.lines.get(timeout=120)
            assert line is not None, f"it has ended without `{words}`: {self.seen[-8:]}"
            self.seen.append(line)
            if words in self.seen[-1]:
                return self.seen[-1]

    def has_said(self, words):
        """Or says it yet: what comes by itself may have come while something else was waited for."""
        return next((line for line in self.seen if words in line), None) or self.wait_for(words)

    def post(self, secret, body=BODY, *, at=None, id_="event-1"):
        text, at = json.dumps(body), at or datetime.now(UTC)
        headers = {
            "webhook-id": id_,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(id_, at, text),
        }
        return httpx2.post(self.url, content=text, headers=headers, trust_env=False, timeout=10).status_code

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(timeout=120)
        self.reader.join()
        self.process.stdout.close()
        return status


@pytest.fixture
def listen():
    started = []

    def start(*arguments, **env):
        started.append(Listening(*arguments, **env))
        started[-1].begin()
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)


def test_what_is_signed_wrong_is_never_called_ok(listen, demo):
    secret = new_secret()
    listening = listen("--secret", secret)
    assert listening.post(secret) == 200
    line = listening.wait_for("payment.succeeded")
    for word in (ID, "succeeded", "v3", "signature ok"):
        assert word in line
    assert listening.post(new_secret(), id_="event-2") == 401
    assert "SIGNATURE WRONG" in listening.wait_for("payment.succeeded")
    assert listening.post(secret, id_="event-3", at=datetime.now(UTC) - timedelta(hours=1)) == 401
    assert "SIGNATURE WRONG" in listening.wait_for("payment.succeeded")
    assert not WebhookEndpoint.objects.exists()
    assert listening.end() == 0


def test_a_repetition_is_told_and_the_first_calls_fail_as_asked(listen, demo):
    secret = new_secret()
    listening = listen("--secret", secret, "--fail", "2", "--status", "503", "-v", "2")
    assert [listening.post(secret) for _ in range(3)] == [503, 503, 200]
    assert "again" not in listening.wait_for("answered 503")
    assert "again" in listening.wait_for("answered 503")
    assert '"timestamp"' in listening.wait_for("timestamp")
    assert "again" in listening.wait_for("answered 200")


def test_control_characters_never_reach_the_terminal(listen, demo):
    secret = new_secret()
    listening = listen("--secret", secret, "-v", "2")
    listening.post(secret, {"type": "\x1b[2Jpayment", "data": {"id": "\x1b]0;title\x07"}})
    listening.wait_for("signature ok")
    listening.wait_for("title")
    assert "\x1b" not in "".join(listening.seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_endpoint_is_there_while_it_listens_and_no_longer(listen, demo, number):
    listening = listen("--events", "payment.succeeded", "payment.failed")
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.url, endpoint.merchant, endpoint.mode) == (listening.url, demo, Mode.TEST)
    assert (endpoint.event_types, endpoint.enabled) == (["payment.succeeded", "payment.failed"], True)
    (secret,) = endpoints.secrets_of(endpoint, now=datetime.now(UTC))
    assert listening.post(secret) == 200
    assert "signature ok" in listening.wait_for("payment.succeeded")
    assert listening.end(number) == 0
    endpoint.refresh_from_db()
    assert endpoint.deleted_at is not None
    assert secret not in "".join(listening.seen)


def test_what_a_killed_run_left_is_taken_over(listen, demo):
    port = str(free_port())
    listen("--port", port).end(signal.SIGKILL)
    left_over = WebhookEndpoint.objects.get()
    endpoints.change(endpoint=left_over, enabled=False, now=datetime.now(UTC))
    listening = listen("--port", port)
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.pk, endpoint.enabled) == (left_over.pk, True)
    assert endpoint.secret != left_over.secret
    assert listening.post(endpoints.secrets_of(endpoint, now=datetime.now(UTC))[0]) == 200


def test_killed_runs_never_use_up_the_merchants_endpoints(listen, demo):
    listen().end(signal.SIGKILL)
    other, _ = endpoints.create(
        merchant=demo, mode=Mode.TEST, url=f"http://127.0.0.1:{free_port()}/", description="mine"
    )
    listening = listen()
    alive = WebhookEndpoint.objects.filter(deleted_at=None)
    assert {endpoint.url for endpoint in alive} == {other.url, listening.url}
    assert WebhookEndpoint.objects.filter(description=DESCRIPTION).count() == 2


def test_what_is_too_large_is_not_read(listen, demo):
    listening = listen("--secret", new_secret())
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(listening.url).port, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(2**30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


# --- both


def test_what_is_triggered_comes_to_the_listener_signed(listen, tmp_path, virtual_hosts):
    """The way of the README: nothing between the two commands is replaced."""
    system = System(tmp_path, host=next(virtual_hosts))
    try:
        system.set_up()
        system.start("relay")
        system.start("worker")
        listening = listen("--events", "payment.succeeded", "payment.failed", "--fail", "1", **system.env)
        for name, status in (("payment.succeeded", "succeeded"), ("payment.declined", "failed")):
            said = system.manage("sandbox", "trigger", name)
            payment_id = re.search(r"payment (\S+),", said)[1]
            line = listening.wait_for(payment_id)
            assert f"payment.{status}" in line
            assert "signature ok" in line
        assert "signature ok" in listening.has_said("again")  # the first call failed, and came once more
        assert listening.end() == 0
        (row,) = system.query("SELECT enabled, deleted_at FROM notifications_webhookendpoint")
        assert (row["enabled"], row["deleted_at"] is not None) == (False, True)
    finally:
        system.tear_down()


# --- trigger


def sandbox(*arguments):
    out = StringIO()
    call_command("sandbox", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("name", [*METHODS, *ALIASES])
def test_a_trigger_makes_a_test_payment_that_leads_there(demo, name):
    said = sandbox(
        *["trigger", name, "--amount", "12.34", "--receipt-email", "a@example.com"],
        *["--receipt-phone", "+4915123456789", "--webhook-url", "http://127.0.0.1:9/"],
    )
    payment = Payment.objects.get()
    assert str(payment.pk) in said
    assert (payment.mode, payment.merchant, payment.amount, payment.currency) == (Mode.TEST, demo, 1234, "EUR")
    assert payment.payment_method == METHODS[ALIASES.get(name, name)]
    assert (payment.receipt_email, payment.receipt_phone) == ("a@example.com", "+4915123456789")
    assert payment.webhook_url == "http://127.0.0.1:9/"


def test_what_cannot_be_triggered_is_told_with_what_can(demo):
    with pytest.raises(CommandError, match=r"payment\.canceled cannot.*payment\.succeeded.*payment\.declined"):
        sandbox("trigger", "payment.canceled")
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trigger", "payment.failed", "--amount", "1.001"], "amount: EUR has 2 decimals"),
        (["trigger", "payment.failed", "--receipt-phone", "12"], "receipt_phone: A phone number"),
        (["trigger", "payment.failed", "--merchant", "nobody"], "no merchant `nobody`"),
        (["listen", "--merchant", "nobody"], "no merchant `nobody`"),
        (["listen", "--events", "payment.paid"], "No such event: payment.paid"),
        (["listen", "--secret", "whsec_x"], "--secret is"),
        (["listen", "--status", "200"], "--status is"),
        (["listen", "--port", "70000"], "--port 70000"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:12],
)
def test_nonsense_is_refused_with_the_mend(demo, arguments, says):
    with pytest.raises(CommandError, match=re.escape(says)):
        sandbox(*arguments)
    assert not Payment.objects.exists()
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("arguments", [["listen"], ["trigger", "payment.succeeded"]], ids=["listen", "trigger"])
def test_production_has_no_sandbox(demo, settings, arguments):
    settings.ENV = type("Production", (), {"production": True})()
    with pytest.raises(CommandError, match="ENVIRONMENT=development"):
        sandbox(*arguments)


def test_without_private_targets_a_listener_says_why_nothing_would_come(demo, settings):
    settings.WEBHOOK_PRIVATE_TARGETS = False
    with pytest.raises(CommandError, match="WEBHOOK_PRIVATE_TARGETS"):
        sandbox("listen")
