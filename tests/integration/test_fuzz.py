"""Requests made up from the API's own documentation: none breaks us, and none gets what is not documented.

`make fuzz` tries many more of them than `make test`.
"""

import json
import os
import re
from functools import partial
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes
from uuid import uuid4

import pytest
import schemathesis
import yaml
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.wsgi import application
from merchants import api_keys
from merchants.models import Membership, Mode, Role, User
from notifications.models import Contact
from tests import cpu_budget, matrix
from tests.doors import answer_of
from tests.dying import letter
from tests.notifying import endpoint, message, webhook

#: Examples for each operation and caller. A handful finds a 500 for a wrong type; `make fuzz` finds what is rare.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
#: In everything that is another merchant's.
MARK = "m4rk-of-the-other"
PASSWORD = "correct-horse-battery-staple"


def in_the_tests_transaction(environ, start_response):
    """The application, but that it keeps its connection, and with it the test's transaction, between requests."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)  # Django's own test client connects it anew each time
    answer = answer_of(environ)
    if answer is None:
        return application(environ, start_response)
    status, headers, body = answer
    start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
    return [body]


CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENT = yaml.safe_load((django_settings.BASE_DIR / "openapi.yaml").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
SCHEMA.app = in_the_tests_transaction
#: Addresses that nobody needs a credential for, in the table that all of them stand in.
OPEN = {f"/{address.path}" for address in matrix.api() if (address.name, "POST") in matrix.open_doors()}
OPERATIONS = [
    (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method in {"get", "post", "put", "patch", "delete"}
]

pytestmark = pytest.mark.django_db
#: See tests/doors.py; most of what is tried here is unusual, and goes into the house by itself.
BOTH_DOORS = False


@pytest.fixture(autouse=True)
def quick(settings):
    """Many requests are the point here, and no attack."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LIMITS = dict.fromkeys(settings.LIMITS, "1000000/s")
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def things_of(merchant, mark):
    """One of everything; path parameter -> its id."""
    hook = endpoint(merchant, f"https://shop.example/{mark}", description=mark)
    Contact.objects.create(merchant=merchant, mode=Mode.TEST, user_id=mark, email=f"{mark}@example.com")
    key = api_keys.generate_key(Mode.TEST)
    api_keys.register_key(key, merchant=merchant, mode=Mode.TEST, name=mark)
    client = Client(headers={"authorization": f"Bearer {key}", "idempotency-key": mark})
    made = client.post("/api/v1/payments", {"amount": 1, "description": mark}, content_type="application/json")
    assert made.status_code == 202, made.content
    return key, {
        "payment_id": made.json()["id"],
        "endpoint_id": str(hook.pk),
        "user_id": mark,
        "webhook": str(webhook(hook).pk),
        "notification": str(message(merchant, recipient=f"{mark}@shop.example").pk),
        "letter_id": letter().pk,
        "key_id": str(api_keys.register_key(f"sk_test_{mark}", merchant=merchant, mode=Mode.TEST, name=mark).pk),
    }


def staff_token(merchant):
    """Somebody who may do everything."""
    user = User.objects.create_user("staff", password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    Membership.objects.create(user=user, merchant=merchant, role=Role.ADMIN)
    asked = {"username": "staff", "password": PASSWORD}
    return Client().post("/api/v1/token", asked, content_type="application/json").json()["access"]


def pointed_at(case, things):
    """The same request about a thing that there is."""
    for name in case.path_parameters or {}:
        kind = "webhook" if "webhook-deliveries" in case.path else "notification"
        found = things.get(kind if name == "delivery_id" else name)
        if found is not None:
            case.path_parameters[name] = found
    return case


@pytest.mark.parametrize("who", ["nobody", "key", "staff"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_no_request_breaks_us_or_gets_what_is_not_documented(merchant, other_merchant, who, method, path):
    key, ours = things_of(merchant, "ours")
    _, theirs = things_of(other_merchant, MARK)
    credential = {"nobody": None, "key": key, "staff": staff_token(merchant) if who == "staff" else None}[who]
    shown_all = who == "staff" and ("dead-letter" in path or "approval" in path)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=SCHEMA[path][method].as_strategy(), things=st.sampled_from([None, ours, theirs]))
    def try_it(case, things):
        if things:
            case = pointed_at(case, things)
        headers = {"Idempotency-Key": str(uuid4()), "Authorization": f"Bearer {credential}" if credential else ""}
        response = case.call(headers=headers)
        assert response.status_code < 500, response.text
        if credential is None and path not in OPEN:
            assert response.status_code == 401
        text = response.text.replace(case.formatted_path, "").replace(
            MARK, "", int(things is theirs and "user_id" in path)
        )
        assert shown_all or MARK not in text, "this is another merchant's"
        case.validate_response(response, checks=CHECKS)

    try_it()


# --- what the worst requests cost


def fields_of(path, method):
    """The names of the fields that a body may have."""
    content = DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return []
    reference = content["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
    return list(DOCUMENT["components"]["schemas"].get(reference, {}).get("properties", {}))


def worst_requests(method, path, things):
    """What it is, path and query, body and headers, of everything that is expensive to look at."""
    to_it = path_to(path, things)
    for what, body in cpu_budget.hostile_bodies(fields_of(path, method.lower())):
        yield what, to_it, body, {}
    for what, headers in cpu_budget.hostile_headers():
        yield what, to_it, b"{}", headers
    parameters = DOCUMENT["paths"][path][method.lower()].get("parameters", [])
    queries = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    for what, text in cpu_budget.TEXTS.items():
        value = quote(text) * (cpu_budget.MAX_LINE // len(quote(text)))
        yield f"path: {what}", re.sub(r"\{\w+\}", value.replace("%2F", ""), path), b"{}", {}
        for name in queries:
            yield f"query {name}: {what}", f"{to_it}?{name}={value}", b"{}", {}


def path_to(path, things):
    """The path of something that there is."""
    kind = "webhook" if "webhook-deliveries" in path else "notification"
    known = {**things, "delivery_id": things[kind]}
    return re.sub(r"\{(\w+)\}", lambda found: str(known.get(found[1], uuid4())), path)


def worst_batches():
    """The same, of a batch: a megabyte, of many small or of a few large payments."""
    most = django_settings.MAX_BATCH_BYTES
    for what, body in cpu_budget.hostile_bodies(["payments"], most):
        yield what, body
    item = {"amount": "1.00", "description": "1 " * 499, "metadata": {f"k{n}": "1 " * 249 for n in range(50)}}
    texts = {"digits": item, "unknown fields": {"amount": "1.00", **{f"f{n}": 0 for n in range(2_000)}}}
    for what, each in texts.items():
        number = most // (len(json.dumps(each)) + 50)
        payments = [{**each, "idempotency_key": f"{what[:1]}-{n}"} for n in range(number)]
        yield f"{number} payments of {what}", json.dumps({"payments": payments}).encode()
    small = [
        {"amount": "1.00", "idempotency_key": f"s-{n}", "description": "1 " * 499, "metadata": {"k": "1 " * 249}}
        for n in range(500)
    ]
    yield "500 payments of usual size", json.dumps({"payments": small}).encode()
    wrong = [{"amount": "x", "currency": "y", "description": 1, "receipt_phone": "z", "receipt_email": "z"}] * 500
    yield "500 payments with five faults each", json.dumps({"payments": wrong}).encode()


def environ_of(method, target, body, headers):
    """A request, as the web server hands it on."""
    path, _, query = target.partition("?")
    made = RequestFactory().generic(method, "/", body, content_type="application/json", headers=headers).environ
    told = unquote_to_bytes(path).decode("latin-1")
    return {**made, "PATH_INFO": told, "QUERY_STRING": query, "HTTP_HOST": "testserver"}


def cost_of(method, target, body, headers):
    """Seconds of processor time that a request takes, without those of its being made."""
    environ = environ_of(method, target, body, headers)
    statuses = []
    seconds = cpu_budget.processor_time(
        lambda: b"".join(in_the_tests_transaction(environ, lambda status, _: statuses.append(status)))
    )
    assert statuses[0] < "500", statuses
    return seconds


@pytest.mark.skipif(EXAMPLES < 50, reason="measured by `make fuzz`: processor time is no matter of correctness")
@pytest.mark.parametrize("who", ["nobody", "key", "staff"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_no_request_takes_more_processor_time_than_its_budget(merchant, settings, who, method, path):
    settings.CREATION_BURST = settings.CREATION_RATE = 10**9
    key, things = things_of(merchant, "ours")
    credential = {"nobody": None, "key": key, "staff": staff_token(merchant) if who == "staff" else None}[who]
    shown = {"Authorization": f"Bearer {credential}"} if credential else {}
    factor = cpu_budget.machine_factor()
    budget = cpu_budget.ANONYMOUS_SECONDS if credential is None else cpu_budget.AUTHENTICATED_SECONDS
    requests = [(*request, budget) for request in worst_requests(method, path, things)]
    if path.endswith("/batch") and credential:
        kilobyte = cpu_budget.BATCH_SECONDS_PER_KILOBYTE
        requests += [(what, path, body, {}, budget + kilobyte * len(body) / 1024) for what, body in worst_batches()]
    cost_of(method, path, b"{}", shown)  # what is done once in each process
    for what, target, body, headers, most in requests:
        call = partial(cost_of, method, target, body, {**shown, **headers})
        seconds = min(measured(most * factor, call))
        cpu_budget.note(f"{method} {path}", who, seconds / factor, what)
        assert seconds <= most * factor, f"{what} costs {seconds * 1000:.1f} ms of {most * factor * 1000:.1f}"


def measured(limit, measure):
    """Measurements: one that is within the limit is the last, as whatever else runs here can only add to it."""
    for _ in range(cpu_budget.REPEATS):
        seconds = measure()
        yield seconds
        if seconds <= limit:
            return
