"""What is remembered of a token is that it was signed, and nothing that may change."""

import time
from unittest import mock

import jwt
import pytest
import time_machine
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from merchants import signing
from merchants.signing import RotatingKeys, key_id

OLD, NEW = "o" * 32, "n" * 32


@pytest.fixture(autouse=True)
def keys(settings):
    settings.JWT_SIGNING_KEYS = [OLD]


@pytest.fixture
def backend():
    return RotatingKeys()


def signed(backend, **claims):
    now = int(time.time())
    return backend.encode({"exp": now + 300, "iat": now, "jti": "j", "token_type": "access", **claims})


def test_a_token_is_verified_once(backend):
    token = signed(backend)
    first = backend.decode(token)
    with mock.patch.object(backend, "read", side_effect=AssertionError):
        assert backend.decode(token) == first


def test_what_one_request_does_to_the_claims_another_does_not_see(backend):
    token = signed(backend)
    backend.decode(token)["jti"] = "changed"
    backend.decode(token)["jti"] = "changed again"
    assert backend.decode(token)["jti"] == "j"


def test_a_token_that_was_verified_ends_when_it_ends(backend):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        token = signed(backend)
        assert backend.decode(token)
        clock.shift(299)
        assert backend.decode(token)
        clock.shift(1 + signing.LEEWAY)
        with pytest.raises(TokenBackendExpiredToken):
            backend.decode(token)


def test_a_token_is_refused_by_a_clock_that_was_set_back_as_any_other(backend):
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        token = signed(backend)
        assert backend.decode(token)
        clock.shift(-60)
        with pytest.raises(TokenBackendError):
            backend.decode(token)


def test_a_token_whose_key_was_withdrawn_is_no_longer_taken(backend, settings):
    token = signed(backend)
    assert backend.decode(token)
    settings.JWT_SIGNING_KEYS = [NEW, OLD]
    assert backend.decode(token), "it may still be verified"
    settings.JWT_SIGNING_KEYS = [NEW]
    with pytest.raises(TokenBackendError):
        backend.decode(token)


def test_no_other_signature_profits_from_one_that_was_verified(backend):
    token = signed(backend)
    backend.decode(token)
    head, body, signature = token.split(".")
    for forged in (
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body}.",
        f"{token}x",
        f"{head}.{body[::-1]}.{signature}",
    ):
        with pytest.raises(TokenBackendError):
            backend.decode(forged)


def test_a_token_that_is_refused_is_not_remembered(backend):
    claims = {"exp": int(time.time()) + 300, "iat": int(time.time()), "jti": "j", "token_type": "access"}
    forged = jwt.encode({**claims, "iss": "payments", "aud": "payments-api"}, NEW, headers={"kid": key_id(OLD)})
    for _ in range(2):
        with pytest.raises(TokenBackendError):
            backend.decode(forged)
    assert backend.verified.known == {}


def test_no_more_are_remembered_than_there_is_room_for(backend, monkeypatch):
    monkeypatch.setattr(signing, "MOST_REMEMBERED", 3)
    for number in range(10):
        backend.decode(signed(backend, jti=str(number)))
        assert len(backend.verified.known) <= 3
