"""The fast door answers as the house would, or leaves everything as it was; nobody's trouble is that of a list."""

import asyncio
import base64
import json
import re
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import pytest
import structlog
from django.core.handlers.wsgi import WSGIHandler
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from config import fast_door
from config.fast_door import LARGEST, FastDoor
from config.front import Front, environ_of
from config.threads import Answer
from merchants import api_keys, buckets
from merchants.callers import Credential, credential_in
from merchants.fuse import WITHOUT_COUNTER
from merchants.models import ApiKey, LoginSession, Membership, Mode, Role, Scope, User
from payments import fast_path
from payments.fast_path import Asked
from payments.idempotency import CLAIM
from payments.models import DeclineBlock, IdempotencyKey, Payment
from payments.velocity import blocks_in_force
from tests import doors
from tests.conftest import API_KEY
from tests.counting import by_redis
from tests.database_faults import read_only_database
from tests.logins import access_of, forge

pytestmark = pytest.mark.django_db(transaction=True)

BODY = b'{"amount": "10.00"}'
NOBODY_LISTENS = "redis://127.0.0.1:9/0"
#: What differs from one request to the next.
OWN = {"location", "x-request-id", "ratelimit"}


# --- two ways in


class House:
    """Django, in the thread of the test; it keeps what it was asked."""

    def __init__(self):
        self.application = WSGIHandler()
        self.asked = []

    async def __call__(self, environ, send):
        self.asked.append((dict(environ), environ["wsgi.input"].getvalue(), environ["wsgi.input"].tell()))
        for message in Answer(None).run(self.application, environ):
            await send(message)


class Shut:
    """A door that answers nothing."""

    async def answer(self, environ, body, send):
        return False


def ask(door, house, headers, body=BODY, **changes):
    """One request of a real server; status, headers and body of its answer."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        messages.append(message)

    doors.at_once(Front(door, house, None)(scope_of(headers, **changes), receive, send))
    told = sorted((name.decode(), value.decode("latin-1")) for name, value in messages[0]["headers"])
    return messages[0]["status"], told, b"".join(message["body"] for message in messages[1:])


def scope_of(headers, **changes):
    """A request as a server hands it on."""
    given = {name: value for name, value in headers.items() if value is not None}
    sent = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]
    return {
        "type": "http", "method": "POST", "raw_path": b"/api/v1/payments", "query_string": b"", "http_version": "1.1",
        "scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 4711), **changes, "headers": sent,
    }  # fmt: skip


def usual(key="key-1", body=BODY, **headers):
    """Headers of a usual request, and changes to them."""
    return {
        "host": "testserver",
        "content_type": "application/json",
        "content_length": str(len(body)),
        "authorization": f"Bearer {API_KEY}",
        "idempotency_key": key,
        **headers,
    }


@pytest.fixture(autouse=True)
def without_a_loop(monkeypatch):
    """No event loop: all happens where the test's transaction is, and nothing has to be waited for."""
    monkeypatch.setattr("config.front.asyncio.timeout", lambda _delay: nullcontext())


@pytest.fixture
def house():
    return House()


@pytest.fixture
def by_door(client, house):
    """Ask as clients do: the door, and behind it the house."""
    return lambda key="key-1", body=BODY, **headers: ask(doors.DOOR, house, usual(key, body, **headers), body)


@pytest.fixture
def by_house(client):
    """Ask the house alone."""
    return lambda key="key-1", body=BODY, **headers: ask(Shut(), House(), usual(key, body, **headers), body)


@pytest.fixture
def jwt(merchant):
    """An access token of somebody who may create payments."""
    ada = User.objects.create(username="ada")
    return access_of(Membership.objects.create(user=ada, merchant=merchant, role=Role.OPERATOR))


def without_own(headers):
    """Headers, but for what is of this one request."""
    return [(name, value) for name, value in headers if name not in OWN]


def in_general(body):
    """A payment, but for what is of this one."""
    payment = json.loads(body)
    for own in ("id", "created_at", "links", "order_id"):
        payment.pop(own)
    return payment


def counted():
    """All metrics of requests; of durations only how many were measured."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        if family.name.startswith(("django_http", "payments_limits"))
        for sample in family.samples
        if not sample.name.endswith("_created")
        if "latency" not in sample.name or sample.name.endswith("_count")
    }


def grown(before):
    """What has been counted since."""
    now = counted()
    return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}


@pytest.fixture
def lines():
    """What we log."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.add_logger_name]) as found:
        yield found


def requests_in(lines):
    """The log's lines of requests."""
    return [line for line in lines if line["event"].startswith("request_")]


# --- the same answer


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/json"},
        {"accept": "application/json, text/plain, */*"},
        {"content_type": "application/json; charset=utf-8"},
        {"content_type": "Application/JSON;charset=UTF-8"},
        {"authorization": None, "x_api_key": API_KEY},
        {"authorization": "", "x_api_key": API_KEY},
        {"host": "TESTSERVER:8000"},
        {"host": "testserver."},
        {"x_request_id": "not acceptable"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"origin": "https://elsewhere.example", "x_forwarded_host": "elsewhere.example"},
    ],
)
def test_a_usual_request_is_answered_by_the_door_as_the_house_would(by_door, by_house, house, lines, headers):
    seen = []
    for way, key in ((by_door, "door"), (by_house, "house")):
        lines.clear()
        before = counted()
        status, told, body = way(**{"key": key, **headers})
        (line,) = requests_in(lines)
        assert line.pop("request_id") == dict(told)["x-request-id"]
        assert re.fullmatch(r'"creation";r=\d+;t=1', dict(told)["ratelimit"])
        assert dict(told)["location"] == json.loads(body)["links"]["self"]
        seen.append((status, without_own(told), in_general(body), line, grown(before)))
    assert house.asked == [], "the door has answered"
    assert seen[0] == seen[1]
    assert seen[0][0] == 202
    assert len(seen[0][4]) >= 12


def test_a_repetition_is_answered_by_the_door_byte_for_byte(by_door, by_house, house, few):
    metadata = b'"metadata": {"gr\xc3\xbc\xc3\x9fe": "\xf0\x9f\x8c\x8d"}'
    first = by_door(body=b'{"amount": 10, %s}' % metadata)
    again = [way(body=b'{"amount": 10.0, %s}' % metadata) for way in (by_door, by_house)]
    assert house.asked == []
    assert "idempotent-replayed" not in dict(first[1])
    assert [(status, body) for status, _, body in again] == [(202, first[2])] * 2
    assert without_own(again[0][1]) == without_own(again[1][1])
    assert dict(again[0][1])["idempotent-replayed"] == "true"
    assert dict(again[0][1])["location"] == dict(first[1])["location"]
    assert Payment.objects.count() == 1
    assert IdempotencyKey.objects.get().replays == 2
    assert [dict(told)["ratelimit"].split(";")[1] for _, told, _ in (first, *again)] == ["r=9", "r=8", "r=8"]
    assert few() == 1


def test_a_person_is_answered_by_the_door_and_stands_in_the_log_as_the_house_would_have_it(
    by_door, by_house, house, jwt, lines
):
    answers = [way(key, authorization=f"Bearer {jwt}") for way, key in ((by_door, "door"), (by_house, "house"))]
    assert house.asked == []
    assert [answer[0] for answer in answers] == [202, 202]
    lines = requests_in(lines)
    assert [line["user_id"] for line in lines] == [f"user:{User.objects.get().pk}"] * 2


def test_the_request_id_is_the_clients_own_in_the_answer_and_at_the_payment(by_door, house):
    told = dict(by_door(x_request_id="order-4711")[1])
    assert told["x-request-id"] == "order-4711"
    assert Payment.objects.get().request_id == "order-4711"
    assert house.asked == []


def test_what_was_accepted_is_logged_and_counted_though_its_client_has_left(client, lines):
    before = counted()

    async def send(_message):
        raise ConnectionResetError

    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/payments", "HTTP_HOST": "testserver",
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(BODY)), "wsgi.url_scheme": "http",
        "HTTP_AUTHORIZATION": f"Bearer {API_KEY}", "HTTP_IDEMPOTENCY_KEY": "key-1",
    }  # fmt: skip
    with pytest.raises(ConnectionResetError):
        doors.at_once(doors.DOOR.answer(environ, BODY, send))
    assert Payment.objects.exists()
    assert [line["code"] for line in requests_in(lines)] == [202]
    assert grown(before)[("django_http_requests_before_middlewares_total",)] == 1


# --- the house's own


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": ""},
        {"accept": "text/html"},
        {"accept": "application/json;q=0.9"},
        {"authorization": None},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Bearer x", "x_api_key": API_KEY},
        {"authorization": f"bearer {API_KEY}"},
        {"authorization": f"Bearer\t{API_KEY}"},
        {"authorization": f"Bearer  {API_KEY}"},
        {"authorization": f"Bearer {API_KEY}\t"},
        {"authorization": f"Bearer {API_KEY} {API_KEY}"},
        {"authorization": f"Basic {API_KEY}"},
        {"content_length": "0"},
        {"content_length": "5"},
        {"content_length": "+19"},
        {"content_type": None},
        {"content_type": "text/plain"},
        {"content_type": "application/json; charset=latin-1"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"cookie": "csrftoken=not-one-of-ours"},
        {"host": None},
        {"host": ""},
        {"host": "elsewhere.example"},
        {"host": "testserver:port"},
        {"host": "testserver,testserver"},
        {"prefer": "wait=0"},
        {"x_correlation_id": "c-1"},
        {"x_requested_with": "XMLHttpRequest"},
    ],
    ids=str,
)
def test_an_unusual_form_goes_into_the_house_untouched(by_door, by_house, house, headers):
    answers = [way(key, **headers) for way, key in ((by_door, "door"), (by_house, "house"))]
    assert len(house.asked) == 1
    environ, body, read_to = house.asked[0]
    assert (body, read_to) == (BODY, 0)
    assert "HTTP_X_REQUEST_ID" not in environ, "nobody has read it"
    for name, value in usual("door", **headers).items():
        known = name.upper() if name.startswith("content") else f"HTTP_{name.upper()}"
        assert environ.get(known) == value
    assert answers[0][0] == answers[1][0]
    assert without_cookie(answers[0][1]) == without_cookie(answers[1][1])


def without_cookie(headers):
    """Headers, but for what chance has put into a cookie."""
    return [(name, value) for name, value in without_own(headers) if name != "set-cookie"]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"method": "PUT"},
        {"raw_path": b"/api/v1/payments/batch"},
        {"raw_path": b"/api/v1//payments"},
        {"raw_path": b"/api/v1/payments%00"},
        {"raw_path": b"/API/v1/payments"},
        {"query_string": b"format=json"},
    ],
    ids=str,
)
def test_another_address_or_method_is_none_of_the_doors(client, house, changes):
    ask(doors.DOOR, house, usual(), **changes)
    assert len(house.asked) == 1


PROBES = [f"/{name}{slash}".encode() for name in ("livez", "readyz", "health", "metrics") for slash in ("", "/")]


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("host", ["10.42.8.201:8000", "[fd00::8]:8000", "evil.example", None])
def test_a_probe_is_answered_under_any_host(settings, house, path, host):
    """Kubernetes and load balancers send the address of the pod; a target in absolute form replaces the header."""
    for hosts in (["pay.example.com"], [".example.com"], ["*"]):
        settings.ALLOWED_HOSTS = hosts
        assert ask(doors.DOOR, house, {"host": host}, b"", method="GET", raw_path=path)[0] == 200
        target = b"http://" + (host or "").encode() + path
        assert ask(doors.DOOR, house, {"host": "x.example"}, b"", method="GET", raw_path=target)[0] == 200
    refused = ask(doors.DOOR, house, {"host": host, "transfer_encoding": "gzip"}, b"", method="GET", raw_path=path)
    assert (refused[0], (host or "none.example").encode() in refused[2]) == (501, False)


def test_metrics_still_need_their_token_under_any_host(settings, house):
    settings.METRICS_TOKEN = "the-token-of-the-scraper"
    given = {"host": "10.42.8.201:8000"}
    assert ask(doors.DOOR, house, given, b"", method="GET", raw_path=b"/metrics")[0] == 401
    given["authorization"] = f"Bearer {settings.METRICS_TOKEN}"
    assert ask(doors.DOOR, house, given, b"", method="GET", raw_path=b"/metrics")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *(b"/", b"/admin/", b"/docs", b"/api/v1/schema", b"/api/v1/payments", b"/livez/x", b"/livez//", b"//livez"),
        *(b"/livez%0A", b"/x/../livez", b"/LIVEZ", b"/readyz/..", b"/problems/not_found"),
    ],
)
def test_nothing_but_a_probe_is_answered_under_another_host(client, house, path):
    for method in ("GET", "POST"):
        assert ask(doors.DOOR, house, usual(host="10.42.8.201:8000"), method=method, raw_path=path)[0] == 400
        target = b"http://10.42.8.201:8000" + path
        assert ask(doors.DOOR, house, usual(), method=method, raw_path=target)[0] == 400
    assert not Payment.objects.exists()


@pytest.mark.parametrize("spelling", [b"/api/v1/payments", b"/api/v1/payments/", b"/api/v1/%70ayments"])
def test_the_door_knows_every_spelling_of_its_address(client, house, spelling, lines):
    assert ask(doors.DOOR, house, usual(), raw_path=spelling)[0] == 202
    assert ask(Shut(), House(), usual("key-2"), raw_path=spelling)[0] == 202
    assert house.asked == []
    assert len({line["request"] for line in requests_in(lines)}) == 1


def test_a_large_body_is_read_by_the_house_however_sound_it_is(by_door, house):
    body = BODY + b" " * (LARGEST - len(BODY))
    assert by_door("small", body)[0] == 202
    assert house.asked == []
    assert by_door("large", body + b" ")[0] == 202
    assert len(house.asked) == 1


def test_two_keys_of_one_request_are_none(by_door, by_house, house):
    """Two headers of one name come as one, with a comma."""
    sent = {"idempotency_key": "key-1,key-2"}
    assert by_door(**sent)[0] == by_house(**sent)[0] == 400
    assert not Payment.objects.exists()


#: Bodies that nobody accepts.
WRONG = [
    b"",
    b"null",
    b"[]",
    b"\xef\xbb\xbf{}",
    b'{"amount": "10.00"',
    b'{"amount": NaN}',
    b'{"amount": 1e999999999}',
    b'{"amount": 1e-999999999}',
    b'{"amount": %s}' % (b"9" * 4000),
    b'{"amount": true}',
    b'{"amount": 1, "amount": 1}',
    b'{"amount": 1, "fee": 1}',
    b'{"amount": 1, "idempotency_key": 5}',
    b'{"amount": 1, "idempotency_key": %s}' % (b"7" * 4000),
    b'{"amount": 1, "idempotency_key": 1e9999999999}',
    b'{"amount": 1, "idempotency_key": %s%s}' % (b"[" * 900, b"]" * 900),
    b'{"amount": 1, "metadata": %s1%s}' % (b'{"a":' * 650, b"}" * 650),
    b"[" * 4000,
    b'{"amount": 1, "metadata": {"a": "\\u0000"}}',
    b'{"amount": 1, "metadata": {"\\ud800": "a"}}',
    b'{"amount": 1, "order_id": "\xed\xa0\x80"}',
    b'{"amount": 1, "order_id": "\xff"}',
    b'{"amount": 1, "description": "4111 1111 1111 1111"}',
    json.dumps({"amount": 1, "metadata": {f"k{number}": "" for number in range(51)}}).encode(),
]


@pytest.mark.parametrize("body", WRONG, ids=lambda body: repr(body[:40]))
def test_a_body_that_is_wrong_is_refused_by_the_house_and_costs_one_token(by_door, by_house, house, few, body):
    (status, _, problem), (status_alone, _, problem_alone) = by_door("door", body), by_house("house", body)
    assert house.asked[0][1:] == (body, 0)
    assert 400 <= status == status_alone < 500
    assert json.loads(problem)["errors"] == json.loads(problem_alone)["errors"]
    assert few() == 2


@pytest.fixture
def few(merchant, settings):
    """A bucket of ten tokens that do not come back; how many are gone."""
    settings.CREATION_BURST, settings.CREATION_RATE = 10, 0.001
    return lambda: 9 - buckets.take(merchant, Mode.TEST).remaining


@pytest.mark.parametrize("trouble", ["revoked", "expired", "scopes", "merchant", "unknown", "live"])
def test_whoever_may_not_is_refused_by_the_house(by_door, by_house, house, merchant, trouble):
    keys, now = ApiKey.objects.all(), timezone.now()
    if trouble == "revoked":
        keys.update(revoked_at=now)
    if trouble == "expired":
        keys.update(expires_at=now)
    if trouble == "scopes":
        keys.update(scopes=[Scope.PAYMENTS_READ.value])
    if trouble == "merchant":
        type(merchant).objects.update(is_active=False)
    if trouble == "unknown":
        keys.delete()
    if trouble == "live":
        keys.update(mode=Mode.LIVE)
    assert by_door("door")[0] == by_house("house")[0] == {"scopes": 403, "live": 503}.get(trouble, 401)
    assert len(house.asked) == 1
    assert not Payment.objects.exists()


@pytest.mark.parametrize("trouble", ["role", "removed", "inactive", "ended", "over", "password", "merchant"])
def test_a_person_who_may_not_is_refused_by_the_house(by_door, by_house, house, merchant, jwt, trouble):
    now = timezone.now()
    if trouble == "role":
        Membership.objects.update(role=Role.SUPPORT)
    if trouble == "removed":
        Membership.objects.all().delete()
    if trouble == "inactive":
        User.objects.update(is_active=False)
    if trouble == "ended":
        LoginSession.objects.update(ended_at=now, end=LoginSession.End.LOGOUT)
    if trouble == "over":
        LoginSession.objects.update(expires_at=now)
    if trouble == "password":
        User.objects.update(password="another")
    if trouble == "merchant":
        type(merchant).objects.update(is_active=False)
    shown = f"Bearer {jwt}"
    assert by_door("door", authorization=shown)[0] == by_house("house", authorization=shown)[0]
    assert len(house.asked) == 1
    assert not Payment.objects.exists()


# --- in production


@pytest.fixture
def production(settings):
    """What production says of TLS, behind a proxy that ends it."""
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    fast_door.standing_headers.cache_clear()
    yield
    fast_door.standing_headers.cache_clear()


@pytest.mark.parametrize(
    ("scheme", "forwarded", "is_secure"),
    [
        ("https", None, True),
        ("http", "https", True),
        ("http", "https, http", True),
        ("http", " https ,http", True),
        ("http", None, False),
        ("http", "http", False),
        ("https", "http", False),
        ("http", "http, https", False),
        ("http", "HTTPS", False),
    ],
)
def test_in_production_only_what_came_over_tls_is_accepted_and_told_to_stay_there(
    production, client, scheme, forwarded, is_secure
):
    house = House()
    before = counted()
    fast = ask(doors.DOOR, house, usual("door", x_forwarded_proto=forwarded), scheme=scheme)
    of_door, before = grown(before), counted()
    slow = ask(Shut(), House(), usual("house", x_forwarded_proto=forwarded), scheme=scheme)
    assert of_door == grown(before)
    assert [fast[0], without_own(fast[1])] == [slow[0], without_own(slow[1])]
    assert fast[0] == (202 if is_secure else 301)
    assert len(house.asked) == (0 if is_secure else 1)
    assert ("strict-transport-security" in dict(fast[1])) is is_secure


# --- lists


KEY = Credential(API_KEY, is_key=True)


def asked(key, body=BODY, credential=KEY):
    """One of a list."""
    return Asked(credential=credential, idempotency_key=key, body=body, request_id=f"r-{key}")


def words(answers):
    """Each answer in a word."""
    return [each and ("replayed" if each.answer.replayed else "accepted") for each in answers]


def token(**claims):
    """A token that we have signed, and that says strange things."""
    now = int(timezone.now().timestamp())
    sound = {
        "exp": now + 60, "iat": now, "jti": "0" * 32, "iss": "payments", "aud": "payments-api", "token_type": "access",
        "sid": "0" * 32, "user_id": "1", "merchant": "0" * 32, "mode": "test",
    }  # fmt: skip
    return forge({**sound, **claims})


def in_base64(text):
    """A part of a token."""
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def strange_tokens():
    """Whatever may stand behind `Bearer`."""
    yield from ("x", "..", "a.b.c", "\0", "\xff\xfe", "é.é.é", "sk_", "sk_\xff\0", "sk_" + "x" * 8000)
    for header in (b"[" * 5000, b'{"a":' * 1500, b"[]", b"null", b'{"alg":"none"}', b'{"kid":[1],"alg":{}}', b"\xff\0"):
        yield f"{in_base64(header)}.e30.eA"


def strange_claims():
    """What no token of ours says."""
    for claims in (
        {"user_id": float("inf")}, {"user_id": "9" * 5000}, {"user_id": [1]}, {"sid": {}}, {"mode": {}}, {"mode": "x"},
        {"merchant": None}, {"exp": 1e300}, {"exp": "soon"}, {"iat": float("nan")}, {"jti": []}, {"token_type": []},
    ):  # fmt: skip
        yield token(**claims)


def poison():
    """Requests that nobody can accept, each for a reason of its own."""
    for number, text in enumerate([*strange_tokens(), *strange_claims()]):
        yield asked(f"token-{number}", credential=Credential(text, is_key=api_keys.looks_like_key(text)))
    for number, body in enumerate(WRONG):
        yield asked(f"body-{number}", body)
    for key in (None, "", " ", "a b", "é", "\0", "x" * 256, '"', "a,b"):
        yield asked(key)
    yield asked("ceiling", b'{"amount": 1000}')
    yield asked("blocked", b'{"amount": 1, "user_id": "mallory"}')


def test_one_that_is_wrong_never_harms_the_others_of_its_list(client, merchant, few):
    merchant.amount_ceilings = {"EUR": "100.00"}
    merchant.save()
    now = timezone.now()
    DeclineBlock.objects.create(
        merchant=merchant, mode=Mode.TEST, user_id="mallory", declines=9, began_at=now, ends_at=now + timedelta(hours=1)
    )
    wrong = list(poison())
    assert len(wrong) > 50
    listed = [asked("first"), *wrong[::2], asked("middle"), *wrong[1::2], asked("last")]
    answers = fast_path.accept_together(listed)
    assert [one.idempotency_key for one, answer in zip(listed, answers, strict=True) if answer] == [
        *("first", "middle", "last")
    ]
    assert Payment.objects.count() == IdempotencyKey.objects.count() == 3
    assert few() == 3, "what came to nothing costs nothing here"


def test_the_house_has_an_answer_for_every_strange_token(by_door, house):
    texts = list(strange_tokens())
    answers = [by_door(f"key-{number}", authorization=f"Bearer {text}")[0] for number, text in enumerate(texts)]
    assert answers == [401] * len(texts)
    assert len(house.asked) == len(texts)


def test_a_defect_at_one_is_not_that_of_the_others(client, monkeypatch):
    request_in = fast_path.request_in

    def fails_at_one(body, *, merchant):
        if body["amount"] == 2:
            raise MemoryError
        return request_in(body, merchant=merchant)

    monkeypatch.setattr(fast_path, "request_in", fails_at_one)
    listed = [asked(f"key-{amount}", b'{"amount": %d}' % amount) for amount in (1, 2, 3)]
    assert words(fast_path.accept_together(listed)) == ["accepted", None, "accepted"]


def test_of_twins_in_one_list_the_first_is_accepted_and_the_house_answers_the_others(by_door, house, few):
    ordered = b'{"amount": 1, "order_id": "o-1"}'
    listed = [asked("key-1"), asked("key-1"), asked("key-1", b'{"amount": 2}')]
    answers = fast_path.accept_together([*listed, asked("a", ordered), asked("b", ordered)])
    assert words(answers) == ["accepted", None, None, "accepted", None]
    assert few() == 2
    assert by_door("key-1", b'{"amount": 2}')[0] == 422
    assert by_door("b", ordered)[0] == 409
    assert len(house.asked) == 2
    replayed = by_door("key-1")
    assert (replayed[0], replayed[2].decode()) == (202, answers[0].answer.body)
    assert len(house.asked) == 2


def test_one_credential_in_different_headers_is_one_caller(client):
    shown = [
        credential_in(api_key=None, authorization=f"Bearer {API_KEY}"),
        credential_in(api_key=API_KEY, authorization=None),
    ]
    assert shown[0] == shown[1]
    answers = fast_path.accept_together([asked(f"key-{n}", credential=each) for n, each in enumerate(shown)])
    assert words(answers) == ["accepted"] * 2


def test_an_error_that_quotes_a_request_tells_no_secret_of_it():
    told = repr(asked("key-1", b'{"receipt_email": "ada@example.com"}'))
    assert "key-1" in told
    assert API_KEY not in told
    assert "ada" not in told


def test_callers_of_one_list_never_meet(client, other_merchant, jwt):
    other = "sk_test_the-key-of-somebody-else"
    api_keys.register_key(other, merchant=other_merchant, mode=Mode.TEST, name="tests")
    shown = [KEY, Credential(other, is_key=True), Credential(jwt, is_key=False)] * 2
    keys = ["key-1", "key-1", "key-2", "key-3", "key-3", "key-4"]  # each merchant has its own
    answers = fast_path.accept_together([asked(key, credential=each) for key, each in zip(keys, shown, strict=True)])
    assert words(answers) == ["accepted"] * 6
    assert Payment.objects.filter(merchant=other_merchant, currency="USD").count() == 2
    assert Payment.objects.exclude(merchant=other_merchant).filter(currency="EUR").count() == 4
    assert [each.caller.pk.partition(":")[0] for each in answers] == ["key", "key", "user"] * 2


def test_twenty_requests_are_one_statement_of_each_kind(client, merchant, jwt, monkeypatch):
    monkeypatch.setattr(blocks_in_force, "renew_at", float("inf"))
    texts = [f"sk_test_key-{number}-of-the-tests" for number in range(5)]
    for text in texts:
        api_keys.register_key(text, merchant=merchant, mode=Mode.TEST, name="tests")
    shown = [*(Credential(text, is_key=True) for text in texts), Credential(jwt, is_key=False)]
    with CaptureQueriesContext(connection) as captured:
        answers = fast_path.accept_together(
            [asked(f"key-{number}", credential=shown[number % 6]) for number in range(20)]
        )
    assert words(answers) == ["accepted"] * 20
    kinds = ["FROM merchants_apikey AS key", "UPDATE merchants_apikey", "FROM merchants_loginsession"]
    kinds += ["INSERT INTO merchants_bucket", "INSERT INTO payments_payment", "pg_notify"]
    statements = [query["sql"] for query in captured if query["sql"] not in {"BEGIN", "COMMIT"}]
    assert len(statements) == len(kinds)
    assert all(kind in statement for kind, statement in zip(kinds, statements, strict=True))
    assert ApiKey.objects.filter(last_used_at=None).count() == 1, "the one that nobody showed"
    remaining = [each.usage.remaining for each in answers]
    assert remaining == sorted(remaining, reverse=True)
    assert len(set(remaining)) == 20, "each is told its own"


def test_a_last_use_that_cannot_be_noted_now_is_noted_next_time(by_door, house):
    with another_session() as cursor:
        cursor.execute("SELECT FROM merchants_apikey FOR UPDATE")
        assert by_door("key-1")[0] == 202
        assert ApiKey.objects.get().last_used_at is None
    assert by_door("key-2")[0] == 202
    assert ApiKey.objects.get().last_used_at is not None
    assert house.asked == []


@contextmanager
def another_session():
    """Another one's transaction, which is rolled back."""
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            yield cursor
        other.rollback()
    finally:
        other.close()


# --- tokens


@pytest.mark.usefixtures("counter")
def test_only_new_payments_cost_tokens(client, few):
    ordered = b'{"amount": 1, "order_id": "o-1"}'
    fast_path.accept_together([asked("old", ordered)])
    listed = [
        asked("old", ordered),
        asked("old"),
        asked("x", ordered),
        asked("new"),
        asked("new"),
        asked("wrong", b"{}"),
    ]
    assert words(fast_path.accept_together(listed)) == ["replayed", None, None, "accepted", None, None]
    assert few() == 2


@pytest.mark.usefixtures("counter")
def test_a_list_for_which_the_tokens_do_not_reach_goes_into_the_house_and_takes_none(client, few):
    assert fast_path.accept_together([asked(f"key-{number}") for number in range(11)]) == [None] * 11
    assert not Payment.objects.exists()
    assert few() == 0


@pytest.mark.usefixtures("counter")
def test_tokens_come_back_when_the_database_goes_away(client, few, monkeypatch):
    def away(_wishes):
        raise OperationalError

    monkeypatch.setattr(fast_path, "accept_at_once", away)
    with pytest.raises(OperationalError):
        fast_path.accept_together([asked("key-1"), asked("key-2")])
    assert few() == 0


def test_a_token_that_cannot_be_returned_hides_no_payment(client, few, monkeypatch):
    fast_path.accept_together([asked("old")])
    monkeypatch.setattr(buckets, "GIVE_BACK", "SELECT 1/0 WHERE %(key)s <> '' AND %(interval)s > 0")
    assert words(fast_path.accept_together([asked("new"), asked("old")])) == ["accepted", "replayed"]
    assert few() == 3


@pytest.mark.usefixtures("counter")
def test_a_list_that_is_in_somebodys_way_leaves_nothing_behind(client, merchant, few):
    with another_session() as cursor:
        cursor.execute(CLAIM, [merchant.pk, "key-1", b"", 202, "{}", "/", None])
        assert fast_path.accept_together([asked("key-1"), asked("key-2")]) == [None, None]
        assert not Payment.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert few() == 0


def test_without_redis_each_payment_is_counted_once_and_by_the_house(by_door, house, settings):
    by_redis(settings, NOBODY_LISTENS)
    before = WITHOUT_COUNTER.labels("creation")._value.get()
    assert [by_door(f"key-{number}")[0] for number in range(3)] == [202] * 3
    assert WITHOUT_COUNTER.labels("creation")._value.get() == before + 3
    assert len(house.asked) == 3


# --- the database


def test_a_connection_that_was_lost_costs_one_list_and_no_answer(by_door, house):
    assert by_door("key-1")[0] == 202
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with another_session() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    assert by_door("key-2")[0] == 202
    assert len(house.asked) == 1
    assert by_door("key-3")[0] == 202
    assert len(house.asked) == 1, "the door has a new one"


def test_a_database_that_takes_no_writes_is_told_of_by_the_house(by_door, house):
    with read_only_database():
        status, told, _ = by_door()
    assert (status, dict(told)["retry-after"]) == (503, "1")
    assert by_door()[0] == 202
    assert len(house.asked) == 1


# --- all at once


def test_many_who_come_at_once_are_all_answered_by_the_door(client):
    door = FastDoor()

    async def send_one(number):
        messages = []
        body = b'{"amount": %d}' % number

        async def send(message):
            messages.append(message)

        assert await door.answer(environ_of(scope_of(usual(f"key-{number}", body)), body), body, send)
        return messages[0]["status"], json.loads(messages[1]["body"])["amount"]

    async def send_all():
        return await asyncio.gather(*(send_one(number) for number in range(1, 41)))

    try:
        answers = asyncio.run(send_all())
    finally:
        door.lane.thread.submit(lambda: connection.close()).result()  # noqa: PLW0108  # that thread's own
        door.lane.thread.shutdown()
    assert answers == [(202, f"{number}.00") for number in range(1, 41)]
    assert Payment.objects.count() == 40
