"""Services get in by keys that work, and nobody who was shown out."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from merchants import api_keys
from merchants.models import ApiKey, Merchant, Mode, Role, Scope
from payments.models import Payment
from tests.logins import PAYMENTS as URL
from tests.logins import call, forbidden, tokens, unauthenticated

KEY = "sk_test_a-key-of-the-tests-of-keys"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db
#: See tests/doors.py.
BOTH_DOORS = True


@pytest.fixture
def key(merchant):
    return api_keys.register_key(KEY, merchant=merchant, mode=Mode.TEST, name="tests")


# --- methods


@pytest.mark.parametrize(
    ("method", "path"),
    [("delete", URL), ("patch", "/api/v1/notification-preferences"), ("patch", "/api/v1/contacts/u")],
)
def test_a_method_that_an_address_does_not_have_is_not_blamed_on_the_scope(anybody, key, method, path):
    answer = getattr(anybody, method)(path, headers={"authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer["Allow"]
    unauthenticated(getattr(anybody, method)(path))


# --- API keys


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_gets_in_without_a_credential(anybody, method):
    unauthenticated(getattr(anybody, method)(URL))
    unauthenticated(getattr(anybody, method)(f"{URL}/{uuid4()}"))


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_is_taken_from_either_header(anybody, key, header):
    assert call(anybody, KEY, header=header).status_code == 200
    assert call(anybody, KEY, header=header, post=True).status_code == 202


def test_the_scheme_is_read_in_any_case(anybody, key):
    assert anybody.get(URL, headers={"authorization": f"bearer {KEY}"}).status_code == 200
    assert anybody.get(URL, headers={"authorization": f"BEARER  {KEY} "}).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
@pytest.mark.parametrize(
    "credential",
    ["sk_test_unknown", KEY[:-1], KEY + "x", KEY.upper(), KEY.replace("test", "live"), "sk_", "sk_\xff\xfe"],
)
def test_an_unknown_key_is_refused(anybody, key, credential, header):
    unauthenticated(call(anybody, credential, header=header))


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Digest"])
def test_a_key_under_another_scheme_is_refused(anybody, key, scheme):
    unauthenticated(anybody.get(URL, headers={"authorization": f"{scheme} {KEY}"}))


def test_a_wrong_key_beside_a_good_token_is_never_overlooked(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    access = tokens(anybody)["access"]
    headers = {"authorization": f"Bearer {access}", "x-api-key": "sk_test_wrong"}
    response = anybody.get(URL, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "credentials_differ")


@pytest.mark.parametrize("post", [False, True])
def test_a_revoked_key_is_refused_at_once(anybody, key, post):
    assert call(anybody, KEY).status_code == 200
    ApiKey.objects.update(revoked_at=timezone.now())
    unauthenticated(call(anybody, KEY, post=post))
    assert not Payment.objects.exists()


def test_a_key_is_refused_from_the_moment_it_expires(anybody, key):
    ApiKey.objects.update(expires_at=NOON)
    with time_machine.travel(NOON - timedelta(milliseconds=1), tick=False):
        assert call(anybody, KEY).status_code == 200
    with time_machine.travel(NOON, tick=False):
        unauthenticated(call(anybody, KEY))


def test_an_inactive_merchants_key_is_refused(anybody, key):
    Merchant.objects.update(is_active=False)
    unauthenticated(call(anybody, KEY))


def test_a_refusal_never_tells_which_keys_exist(anybody, key):
    unknown = unauthenticated(call(anybody, "sk_test_unknown"))["detail"]
    ApiKey.objects.update(revoked_at=timezone.now())
    assert unauthenticated(call(anybody, KEY))["detail"] == unknown


def test_a_key_without_the_scope_to_write_only_reads(anybody, merchant):
    api_keys.register_key(KEY, merchant=merchant, mode=Mode.TEST, name="reads", scopes=[Scope.PAYMENTS_READ])
    assert call(anybody, KEY).status_code == 200
    forbidden(call(anybody, KEY, post=True))


def test_a_key_without_any_scope_does_nothing(anybody, merchant):
    api_keys.register_key(KEY, merchant=merchant, mode=Mode.TEST, name="nothing", scopes=[])
    forbidden(call(anybody, KEY))
    forbidden(call(anybody, KEY, post=True))


def test_the_key_itself_is_stored_nowhere(key):
    stored = ApiKey.objects.values().get()
    assert not any(KEY in str(value) or KEY[len("sk_test_") :] in str(value) for value in stored.values())


def test_the_use_of_a_key_is_noted_and_at_most_once_a_minute(anybody, key):
    def used_at(moment):
        with time_machine.travel(moment, tick=False):
            assert call(anybody, KEY).status_code == 200
        return ApiKey.objects.get().last_used_at

    assert used_at(NOON) == NOON
    assert used_at(NOON + timedelta(seconds=59.9)) == NOON
    assert used_at(NOON + timedelta(seconds=60)) == NOON + timedelta(seconds=60)


def test_a_refused_key_is_not_noted_as_used(anybody, key):
    ApiKey.objects.update(revoked_at=timezone.now())
    unauthenticated(call(anybody, KEY))
    assert ApiKey.objects.get().last_used_at is None
