"""No token but one that we made, for this purpose and a session that is open, lets anybody in."""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest
import time_machine
from django.conf import settings as django_settings
from jwt.utils import base64url_encode
from rest_framework_simplejwt import tokens as tokens_of_the_library

from merchants.models import Role
from merchants.signing import RefreshToken, key_id
from tests.logins import call, claims_of, forge, log_out, refresh, tokens, unauthenticated

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KIDS = ["none", "empty", "unknown", "a number", "not ours yet", "the key itself"]


def by_hand(claims, **header):
    """A token that the library would not make, rightly signed."""
    parts = [{"alg": "HS256", "typ": "JWT", **header}, claims]
    signed = b".".join(base64url_encode(json.dumps(part).encode()) for part in parts)
    key = django_settings.JWT_SIGNING_KEYS[0].encode()
    return b".".join([signed, base64url_encode(hmac.digest(key, signed, "sha256"))]).decode()


@pytest.fixture
def claims(anybody, person, merchant):
    """The claims of a good access token, which would be taken if they were signed."""
    person({merchant: Role.ADMIN})
    claims = claims_of(tokens(anybody)["access"])
    assert call(anybody, forge(claims)).status_code == 200
    return claims


def test_a_token_without_a_signature_is_refused(anybody, claims):
    unauthenticated(call(anybody, forge(claims, None, "none")))
    header, payload, _ = forge(claims).split(".")
    unauthenticated(call(anybody, f"{header}.{payload}."))


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
def test_a_token_signed_with_another_key_is_refused(anybody, claims, algorithm):
    unauthenticated(call(anybody, forge(claims, "another-key-of-sufficient-length-" * 3, algorithm)))


def test_a_token_signed_with_another_algorithm_is_refused(anybody, claims):
    unauthenticated(call(anybody, forge(claims, algorithm="HS384")))


def test_claims_that_were_changed_after_signing_are_refused(anybody, claims, other_merchant):
    header, _, signature = forge(claims).split(".")
    payload = forge({**claims, "merchant": str(other_merchant.pk)}).split(".")[1]
    unauthenticated(call(anybody, f"{header}.{payload}.{signature}"))


@pytest.mark.parametrize(
    "claim",
    [
        {"iss": "somebody-else"},
        {"aud": "another-api"},
        {"token_type": "refresh"},
        {"mode": "live"},
        {"mode": "prod"},
        {"sid": str(UUID(int=7))},
        {"sid": "x"},
        {"sid": None},
        {"user_id": "x"},
        {"user_id": "999999"},
        {"merchant": str(UUID(int=7))},
        {"exp": "soon"},
        {"exp": 1e308},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": "99999999999"},
        {"exp": 253_402_300_800},
        {"exp": None},
        {"exp": [9999999999]},
        {"iat": -1},
        {"iat": False},
        {"iat": "1"},
        {"iat": float("-inf")},
        {"nbf": False},
        {"nbf": float("nan")},
        {"nbf": "1"},
        {"user_id": 1e308},
        {"user_id": 10**40},
        {"user_id": True},
        {"user_id": "9" * 30},
        {"user_id": "\u0661"},
        {"iat": "lately"},
        {"jti": 7},
    ],
)
def test_a_token_made_for_something_else_is_refused(anybody, claims, claim):
    unauthenticated(call(anybody, forge({**claims, **claim})))


@pytest.mark.parametrize("moment", [0, 1, True])
def test_a_token_that_has_expired_is_refused_as_such(anybody, claims, moment):
    response = call(anybody, forge({**claims, "exp": moment}))
    assert (response.status_code, response.json()["code"]) == (401, "token_expired")


@pytest.mark.parametrize(
    "missing", ["exp", "iat", "iss", "aud", "jti", "token_type", "sid", "user_id", "merchant", "mode"]
)
def test_a_token_that_leaves_a_claim_out_is_refused(anybody, claims, missing):
    unauthenticated(call(anybody, forge({name: value for name, value in claims.items() if name != missing})))


def test_a_token_that_is_bound_to_no_session_is_refused(anybody, person, merchant):
    user = person({merchant: Role.ADMIN})
    unauthenticated(call(anybody, str(RefreshToken.for_user(user).access_token)))
    unauthenticated(refresh(anybody, str(RefreshToken.for_user(user))))
    unauthenticated(log_out(anybody, str(RefreshToken.for_user(user))))


def test_a_token_of_the_library_which_names_no_key_is_refused(anybody, person, merchant):
    unauthenticated(call(anybody, str(tokens_of_the_library.AccessToken.for_user(person({merchant: Role.ADMIN})))))


@pytest.mark.parametrize(("ahead", "status"), [(2, 200), (60, 401)])
def test_a_token_of_a_server_whose_clock_is_a_little_ahead_is_not_refused(anybody, person, merchant, ahead, status):
    person({merchant: Role.ADMIN})
    with time_machine.travel(NOON + timedelta(seconds=ahead), tick=False):
        pair = tokens(anybody)
    with time_machine.travel(NOON, tick=False):
        assert call(anybody, pair["access"]).status_code == status
        assert refresh(anybody, pair["refresh"]).status_code == status


# --- keys

NEW_KEY = "a-new-signing-key-of-the-tests-of-tokens"


@pytest.mark.parametrize("kid", [None, "", "0" * 16, 7, key_id(NEW_KEY), django_settings.JWT_SIGNING_KEYS[0]], ids=KIDS)
def test_a_token_that_names_none_of_our_keys_is_refused(anybody, claims, kid):
    unauthenticated(call(anybody, by_hand(claims, kid=kid)))


def test_a_token_is_verified_by_no_other_key_than_it_names(anybody, claims, settings):
    old = settings.JWT_SIGNING_KEYS[0]
    settings.JWT_SIGNING_KEYS = [NEW_KEY, old]
    assert call(anybody, forge(claims, old, kid=key_id(old))).status_code == 200
    assert call(anybody, forge(claims, NEW_KEY, kid=key_id(NEW_KEY))).status_code == 200
    unauthenticated(call(anybody, forge(claims, old, kid=key_id(NEW_KEY))))
    unauthenticated(call(anybody, forge(claims, NEW_KEY, kid=key_id(old))))


def test_nobody_is_logged_out_by_a_new_signing_key_until_the_old_one_goes(anybody, person, merchant, settings):
    person({merchant: Role.ADMIN})
    old_pair, old = tokens(anybody), settings.JWT_SIGNING_KEYS[0]
    settings.JWT_SIGNING_KEYS = [NEW_KEY, old]
    assert call(anybody, old_pair["access"]).status_code == 200
    new_pair = refresh(anybody, old_pair["refresh"]).json()
    assert jwt.get_unverified_header(new_pair["access"])["kid"] == key_id(NEW_KEY)
    settings.JWT_SIGNING_KEYS = [NEW_KEY]
    assert call(anybody, new_pair["access"]).status_code == 200
    unauthenticated(call(anybody, old_pair["access"]))


def test_the_name_of_a_key_gives_nothing_of_it_away():
    name = key_id(NEW_KEY)
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert name not in NEW_KEY
    assert not hashlib.sha256(NEW_KEY.encode()).hexdigest().startswith(name)


GARBAGE = {
    "empty": "",
    "word": "garbage",
    "dots": "..",
    "three words": "a.b.c",
    "no JSON": f"{urlsafe_b64encode(b'x').decode()}.e30.e30",
    "no object": f"{urlsafe_b64encode(b'[]').decode()}.e30.e30",
    "two": "one two",
    "latin-1": "\xff\xfe.\xff.\xff",
    "long": "a" * 10_000,
}


@pytest.mark.parametrize("token", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_and_never_a_500(anybody, token):
    unauthenticated(call(anybody, token))


@pytest.mark.parametrize(
    "token", [*GARBAGE.values(), None, 1, [], {}], ids=[*GARBAGE, "null", "number", "list", "object"]
)
def test_a_garbage_refresh_token_is_refused_and_never_a_500(anybody, token):
    response = refresh(anybody, token)
    assert response.status_code in {400, 401, 413}, response.content
    assert response["Content-Type"] == "application/problem+json"
