"""The backends of SMS: one set of tests for all of them, and what each answer of Twilio means."""

import base64
import json
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from deploy.local.machine import free_port
from notifications.outcomes import Delivered, Failed
from notifications.sms import base
from notifications.sms.console import ConsoleSms
from notifications.sms.file import FileSms
from notifications.sms.twilio import TwilioSms

TO = "+4915123456789"
TEXT = "Shop: payment of €1,234.50 received. Order 1 & 2."
SID, TOKEN = "AC0123", "hunter2"


class Twilio(ThreadingHTTPServer):
    """Stands in for Twilio: answers as the test says, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), TwilioHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status, self.body, self.headers = 201, b'{"sid": "SM0123", "status": "queued"}', {}
        self.drips = self.resets = False
        self.released = threading.Event()
        self.received = []

    def answer(self, status, document=None, **headers):
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = document if isinstance(document, bytes) else json.dumps(document or {}).encode()


class TwilioHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), parse_qs(body.decode(), strict_parsing=True)))
        if self.server.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.drip() if self.server.drips else self.wfile.write(self.server.body)

    def drip(self):
        """A byte now and then, so that no wait for the next one is ever long."""
        for byte in self.server.body * 1000:
            self.wfile.write(bytes([byte]))
            if self.server.released.wait(0.02):
                return

    def log_message(self, *args):
        pass


@pytest.fixture
def twilio():
    server = Twilio()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def sms(twilio):
    return TwilioSms(account_sid=SID, auth_token=TOKEN, sender="+15005550006", url=twilio.url, deadline=5.0)


@pytest.fixture(params=["console", "file", "twilio"])
def backend(request, sms, tmp_path):
    return {"console": ConsoleSms(), "file": FileSms(folder=str(tmp_path / "new" / "sms")), "twilio": sms}[
        request.param
    ]


# --- all of them


def test_a_text_is_taken(backend):
    result = backend.send(to=TO, text=TEXT)
    assert isinstance(result, Delivered)
    assert len(result.reference) <= 255


def test_threads_do_not_get_in_each_others_way(backend):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: backend.send(to=TO, text=TEXT), range(24)))
    assert all(isinstance(result, Delivered) for result in results)


def test_a_backend_shows_no_secret_of_its_own(backend):
    assert TOKEN not in repr(backend)


# --- choosing one


def test_without_a_backend_nobody_is_told(settings):
    settings.SMS_BACKEND = None
    assert base.configured() is None


@pytest.mark.parametrize("name", ["console", "file", "twilio"])
def test_a_backend_is_made_once_from_its_settings(settings, name):
    settings.SMS_BACKEND = settings.SMS_BACKENDS[name]
    assert base.configured() is base.configured()
    assert type(base.configured()).__module__ == f"notifications.sms.{name}"


# --- console and file


def test_an_sms_on_the_console_is_seen_at_once(capsys):
    ConsoleSms().send(to=TO, text=TEXT)
    assert capsys.readouterr().out == f"SMS to {TO}: {TEXT}\n"


def test_lines_of_several_writers_never_mix(tmp_path):
    def write(number):
        return FileSms(folder=str(tmp_path)).send(to=TO, text=f"{number} " + "x" * 150)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    lines = [json.loads(line) for line in (tmp_path / "sms.jsonl").read_text().splitlines()]
    assert sorted(int(line["text"].split()[0]) for line in lines) == list(range(200))
    assert {line["to"] for line in lines} == {TO}


def test_nobody_else_reads_the_file(tmp_path):
    FileSms(folder=str(tmp_path)).send(to=TO, text=TEXT)
    assert stat.S_IMODE((tmp_path / "sms.jsonl").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path):
    (tmp_path / "file").write_text("")
    result = FileSms(folder=str(tmp_path / "file")).send(to=TO, text=TEXT)
    assert isinstance(result, Failed)
    assert not result.final
    assert TO not in result.detail


# --- Twilio


def test_twilio_is_asked_once_and_in_its_own_form(sms, twilio):
    assert sms.send(to=TO, text=TEXT) == Delivered(reference="SM0123", status_code=201)
    ((path, headers, form),) = twilio.received
    assert path == f"/2010-04-01/Accounts/{SID}/Messages.json"
    assert headers["Authorization"] == "Basic " + base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert form == {"From": ["+15005550006"], "To": [TO], "Body": [TEXT]}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"sid": 7}', b"\xff", b"[" * 60_000])
def test_what_twilio_took_is_never_sent_again_for_an_illegible_answer(sms, twilio, body):
    twilio.answer(201, body)
    assert sms.send(to=TO, text=TEXT) == Delivered(status_code=201)


@pytest.mark.parametrize("code", [21211, 21610, 21614, 21635, 60000])
def test_a_recipient_that_twilio_refuses_is_never_tried_again(sms, twilio, code):
    twilio.answer(400, {"code": code, "message": f"The 'To' number {TO} is wrong", "status": 400})
    result = sms.send(to=TO, text=TEXT)
    assert isinstance(result, Failed)
    assert result.final
    assert f"code {code}" in result.detail
    assert result.status_code == 400


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials_are_called_so_and_cost_no_sms(sms, twilio, status):
    """Somebody mends them; until then nothing is given up."""
    twilio.answer(status, {"code": 20003, "message": "Authenticate"})
    result = sms.send(to=TO, text=TEXT)
    assert not result.final
    assert result.detail == f"Twilio refuses our credentials (HTTP {status}, code 20003)."


@pytest.mark.parametrize(
    ("status", "code"), [(408, 0), (429, 20429), (500, 20500), (503, 0), (400, 21611), (200, 0), (302, 0), (400, 20429)]
)
def test_what_passes_is_tried_again(sms, twilio, status, code):
    twilio.answer(status, {"code": code}, Location=f"{twilio.url}/elsewhere")
    result = sms.send(to=TO, text=TEXT)
    assert isinstance(result, Failed)
    assert not result.final
    assert len(twilio.received) == 1  # neither repeated here nor redirected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"code": "x"}', b'{"code": true}', b"\xff", b"[" * 60_000]
)
@pytest.mark.parametrize(("status", "final"), [(400, True), (404, True), (500, False)])
def test_garbage_is_sorted_by_its_status(sms, twilio, body, status, final):
    twilio.answer(status, body)
    assert sms.send(to=TO, text=TEXT).final is final


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, "30", 30.0), (503, "7", 7.0), (429, "999999999", 3600.0), (429, "soon", None), (429, "-1", None),
        (429, "9" * 30, None), (500, "30", None), (429, "Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)  # fmt: skip
def test_a_wish_to_wait_is_heeded_within_reason(sms, twilio, status, header, seconds):
    twilio.answer(status, {}, Retry_After=header)
    assert sms.send(to=TO, text=TEXT).retry_after == seconds


def test_an_answer_that_drips_does_not_hold_a_worker(twilio):
    twilio.drips = True
    impatient = TwilioSms(account_sid=SID, auth_token=TOKEN, sender="Shop", url=twilio.url, deadline=0.3)
    assert impatient.send(to=TO, text=TEXT) == Failed(detail="Twilio gave no answer: nothing whole within 0.3 s.")


def test_an_endless_answer_is_not_read_to_its_end(sms, twilio):
    twilio.answer(201, b"x" * 1_000_000)
    assert sms.send(to=TO, text=TEXT) == Failed(detail="Twilio gave no answer: more than 65536 bytes.")


def test_a_reset_is_tried_again(sms, twilio):
    twilio.resets = True
    result = sms.send(to=TO, text=TEXT)
    assert isinstance(result, Failed)
    assert not result.final


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://[", "nonsense://x", "http://name.invalid"])
def test_who_cannot_be_reached_is_tried_again(url):
    away = TwilioSms(account_sid=SID, auth_token=TOKEN, sender="Shop", url=url.format(port=free_port()), deadline=5.0)
    result = away.send(to=TO, text=TEXT)
    assert isinstance(result, Failed)
    assert not result.final


@pytest.mark.parametrize("status", [201, 400, 401, 404, 429, 500])
def test_no_outcome_tells_number_text_or_credentials(sms, twilio, status):
    secrets = f"{TO} {TEXT} {TOKEN} {SID}"
    twilio.answer(status, {"code": 21211, "message": secrets, "sid": "SM1", "more_info": secrets}, Retry_After=TOKEN)
    told = repr(sms.send(to=TO, text=TEXT))
    for secret in (TO, TEXT, TOKEN, SID):
        assert secret not in told


def test_a_proxy_of_the_environment_is_not_used(sms, twilio, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert isinstance(sms.send(to=TO, text=TEXT), Delivered)
