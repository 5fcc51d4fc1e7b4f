"""A body larger than usual is read for a batch, and only from a caller that may send one: from wire to answer."""

import json
from contextlib import nullcontext

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from config.front import Front
from config.large_bodies import LargeBodies
from config.threads import Answer
from config.wsgi import application
from merchants import api_keys
from merchants.models import Mode, Role, Scope
from payments.models import Payment
from tests.doors import at_once
from tests.logins import access_of

pytestmark = pytest.mark.django_db

#: See tests/doors.py.
BOTH_DOORS = False

BATCH = "/api/v1/payments/batch"
KEY = "sk_test_the-key-of-the-tests-of-large-bodies"
ITEMS = 300
BODY = json.dumps(
    {
        "payments": [
            {"amount": "1.00", "idempotency_key": f"k-{number}", "description": "x" * 250} for number in range(ITEMS)
        ]
    }
).encode()


@pytest.fixture
def key(merchant):
    return api_keys.register_key(KEY, merchant=merchant, mode=Mode.TEST, name="tests")


@pytest.fixture(autouse=True)
def here(settings, monkeypatch):
    """Everything happens in one thread, without an event loop, over the test's connection."""
    settings.CREATION_BURST = 10 * ITEMS
    monkeypatch.setattr("config.front.asyncio.timeout", lambda _delay: nullcontext())
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


class Shut:
    async def answer(self, environ, body, send):
        return False


async def in_this_thread(function):
    return function()


async def house(environ, send):
    """Django, in the thread of the test's transaction."""
    for message in Answer(None).run(application, environ):
        await send(message)


def ask(body, *, path=BATCH, method="POST", announced=True, **headers):
    """Status and document of an answer, and how much of the body was read before it."""
    parts = [body[place : place + 50_000] for place in range(0, len(body), 50_000)]
    length = {"content-length": str(len(body))} if announced else {"transfer-encoding": "chunked"}
    sent = {"host": "testserver", "content-type": "application/json", **length, **headers}
    scope = {
        "type": "http", "method": method, "raw_path": path.encode(), "query_string": b"", "http_version": "1.1",
        "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 4711),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
    }  # fmt: skip
    read = 0
    answered = []

    async def receive():
        nonlocal read
        part = parts.pop(0)
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        answered.append((message, read))

    app = Front(Shut(), house, LargeBodies(in_this_thread))
    at_once(app(scope, receive, send))
    assert not parts, "the client would not read the answer"
    (start, read_before), *rest = answered
    content = b"".join(message["body"] for message, _ in rest)
    is_json = b"json" in dict(start["headers"])[b"content-type"]
    return start["status"], json.loads(content) if is_json else content, read_before


@pytest.mark.parametrize("announced", [True, False])
def test_a_large_batch_is_accepted(key, announced):
    status, document, _ = ask(BODY, announced=announced, authorization=f"Bearer {KEY}")
    assert (status, document["accepted"]) == (200, ITEMS)
    assert Payment.objects.count() == ITEMS


@pytest.mark.parametrize("path", [BATCH, f"{BATCH}/"])
@pytest.mark.parametrize("header", ["x_api_key", "authorization", "session"])
def test_whatever_the_house_takes_for_a_credential_is_one(key, person, merchant, path, header):
    shown = {"x_api_key": KEY, "authorization": f"bearer  {KEY}"}
    if header == "session":
        shown["session"] = f"Bearer {access_of(person({merchant: Role.ADMIN}).memberships.get())}"
    status, _, _ = ask(BODY, path=path, **{header.replace("session", "authorization"): shown[header]})
    assert status == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({"authorization": "Bearer sk_test_nobodys"}, 401, "unauthenticated"),
        ({"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"}, 401, "unauthenticated"),
        ({"authorization": "Bearer sk_test_nobodys", "x_api_key": KEY}, 400, "credentials_differ"),
    ],
)
def test_a_stranger_is_refused_in_the_usual_words_and_early(key, headers, status, code):
    found, document, read = ask(BODY, **headers)
    assert (found, document["code"], document["status"]) == (status, code, status)
    assert read <= 100_000, "it was refused before the rest was read"


def test_a_caller_who_may_only_read_is_refused_early(key):
    key.scopes = [Scope.PAYMENTS_READ.value]
    key.save()
    status, document, read = ask(BODY, authorization=f"Bearer {KEY}")
    assert (status, document["code"]) == (403, "forbidden")
    assert read <= 100_000


def test_refusals_of_strangers_are_counted(settings, key):
    settings.LIMITS = {**settings.LIMITS, "strangers": "1/h"}
    assert ask(BODY, authorization="Bearer sk_test_nobodys")[0] == 401
    assert ask(BODY, authorization="Bearer sk_test_nobodys")[0] == 429


@pytest.mark.parametrize("path", ["/api/v1/payments", "/api/v1/gateways/sandbox/webhooks", "/api/v1/token"])
def test_no_other_address_takes_a_large_body(settings, key, path):
    settings.GATEWAYS["sandbox"]["OPTIONS"]["webhook_secrets"] = ["whsec_AAAA"]
    padded = b'{"amount": "1.00", "idempotency_key": "k"}' + b" " * settings.MAX_BODY_BYTES
    status, document, read = ask(padded, path=path, authorization=f"Bearer {KEY}")
    assert (status, document["code"]) == (413, "body_too_large")
    assert read <= 100_000
    assert not Payment.objects.exists()


def test_a_body_too_large_for_a_batch_is_refused(settings, key):
    status, document, _ = ask(BODY + b" " * settings.MAX_BATCH_BYTES, authorization=f"Bearer {KEY}")
    assert (status, document["code"]) == (413, "body_too_large")
    assert not Payment.objects.exists()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("announced", [True, False])
def test_no_half_of_a_form_is_taken_for_a_whole_one(settings, kind, announced):
    form = b"username=ada&password=" + b"x" * settings.MAX_BODY_BYTES
    status, _, _ = ask(form, path=f"/{settings.ADMIN_PATH}/login/", announced=announced, content_type=kind)
    assert status in {400, 403, 413}
