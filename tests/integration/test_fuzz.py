"""Requests made up from the API's own documentation: none breaks us, and none gets what is not documented.

`make fuzz` tries many more of them than `make test`.
"""

import os
from http import HTTPStatus
from uuid import uuid4

import pytest
import schemathesis
import yaml
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
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
from tests import matrix
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
