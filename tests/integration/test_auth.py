"""Who gets in: keys for services, tokens for people, and nobody who was shown out."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt
import pytest
import time_machine
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import RefreshToken

from merchants import api_keys
from merchants.models import ApiKey, Membership, Merchant, Mode, Role, Scope, User
from payments.models import Payment

URL = "/api/v1/payments"
KEY = "sk_test_a-key-of-the-tests-of-keys"
PASSWORD = "correct-horse-battery-staple"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def anybody():
    """A client without a credential."""
    return Client(raise_request_exception=False)


@pytest.fixture
def key(merchant):
    return api_keys.register_key(KEY, merchant=merchant, mode=Mode.TEST, name="tests")


@pytest.fixture
def person(settings):
    """A person with a password, and a role at each of some merchants."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose

    def make(roles, name="ada"):
        user = User.objects.create_user(name, password=PASSWORD)
        for merchant, role in roles.items():
            Membership.objects.create(user=user, merchant=merchant, role=role)
        return user

    return make


def call(client, credential, *, post=False, header="authorization"):
    """GET or POST payments with a credential."""
    headers = {header: credential if header == "x-api-key" else f"Bearer {credential}"}
    if not post:
        return client.get(URL, headers=headers)
    headers["Idempotency-Key"] = str(uuid4())
    return client.post(URL, {"amount": 1}, content_type="application/json", headers=headers)


def ask(client, **fields):
    return client.post(
        "/api/v1/token", {"username": "ada", "password": PASSWORD, **fields}, content_type="application/json"
    )


def tokens(client, **fields):
    response = ask(client, **fields)
    assert response.status_code == 200, response.content
    return response.json()


def refresh(client, token):
    return client.post("/api/v1/token/refresh", {"refresh": token}, content_type="application/json")


def unauthenticated(response):
    """The problem of a caller whom nobody knows."""
    assert response.status_code == 401, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["code"] == "unauthenticated"
    return response.json()


def forbidden(response):
    assert response.status_code == 403, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "forbidden"
    assert not Payment.objects.exists()


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
    unauthenticated(anybody.get(URL, headers=headers))


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


# --- tokens


def test_a_password_gets_a_pair_of_tokens_that_work(anybody, person, merchant):
    person({merchant: Role.OPERATOR})
    pair = tokens(anybody)
    assert pair.keys() == {"access", "refresh"}
    assert call(anybody, pair["access"], post=True).status_code == 202
    assert Payment.objects.get().merchant == merchant


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "bob"}, {"password": PASSWORD.upper()}])
def test_a_wrong_password_or_name_gets_nothing_and_learns_nothing(anybody, person, merchant, wrong):
    person({merchant: Role.ADMIN})
    refusal = unauthenticated(ask(anybody, **wrong))
    assert refusal["detail"] == unauthenticated(ask(anybody, password="wrong again"))["detail"]


def test_an_inactive_person_gets_no_token(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    User.objects.update(is_active=False)
    unauthenticated(ask(anybody))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/username"),
        ({"username": "ada"}, "/password"),
        ({"username": "a\x00", "password": "x"}, "/username"),
        ({"username": ["ada"], "password": "x"}, "/username"),
        ({"username": "ada", "password": {"x": 1}}, "/password"),
        ({"username": "ada", "password": "x", "mode": "prod"}, "/mode"),
        ({"username": "ada", "password": "x", "merchant": "no slug!"}, "/merchant"),
    ],
)
def test_a_malformed_request_for_a_token_names_the_field(anybody, body, pointer):
    response = anybody.post("/api/v1/token", body, content_type="application/json")
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert pointer in [fault["pointer"] for fault in response.json()["errors"]]


def test_a_member_of_several_merchants_must_name_one(anybody, person, merchant, other_merchant):
    person({merchant: Role.OPERATOR, other_merchant: Role.OPERATOR})
    response = ask(anybody)
    assert response.status_code == 400
    assert [fault["pointer"] for fault in response.json()["errors"]] == ["/merchant"]
    access = tokens(anybody, merchant="other")["access"]
    assert call(anybody, access, post=True).status_code == 202
    assert Payment.objects.get().merchant == other_merchant


def test_nobody_gets_a_token_for_a_merchant_that_is_not_theirs(anybody, person, merchant, other_merchant):
    person({merchant: Role.ADMIN})
    stranger = ask(anybody, merchant="other")
    missing = ask(anybody, merchant="no-such-merchant")
    assert stranger.status_code == missing.status_code == 400
    assert stranger.json()["errors"] == missing.json()["errors"]


def test_a_person_without_any_merchant_gets_no_token(anybody, person):
    person({})
    assert ask(anybody).status_code == 400


def test_an_inactive_merchants_members_are_out(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    access = tokens(anybody)["access"]
    Merchant.objects.update(is_active=False)
    unauthenticated(call(anybody, access))
    assert ask(anybody).status_code == 400


@pytest.mark.parametrize(
    ("role", "may_write"),
    [(Role.VIEWER, False), (Role.SUPPORT, False), (Role.OPERATOR, True), (Role.ADMIN, True)],
)
def test_only_operators_and_admins_create_payments(anybody, person, merchant, role, may_write):
    person({merchant: role})
    access = tokens(anybody)["access"]
    assert call(anybody, access).status_code == 200
    response = call(anybody, access, post=True)
    if may_write:
        assert response.status_code == 202
    else:
        forbidden(response)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.VIEWER, set()),
        (Role.SUPPORT, {"/contacts/user-7"}),
        (Role.OPERATOR, {"/contacts/user-7", "/webhook-endpoints"}),
        (Role.ADMIN, {"/contacts/user-7", "/webhook-endpoints"}),
    ],
)
def test_no_role_changes_who_is_told_what_but_as_far_as_it_goes(anybody, person, merchant, role, may):
    person({merchant: role})
    headers = {"authorization": f"Bearer {tokens(anybody)['access']}"}
    bodies = {"/contacts/user-7": {}, "/webhook-endpoints": {"url": "https://shop.example/hook"}}
    for path, body in bodies.items():
        send = anybody.put if path.startswith("/contacts") else anybody.post
        answer = send(f"/api/v1{path}", body, content_type="application/json", headers=headers)
        assert answer.status_code == (201 if path in may else 403), answer.content
    for path in (
        "/contacts",
        "/notifications",
        "/notification-preferences",
        "/webhook-deliveries",
        "/webhook-endpoints",
    ):
        assert anybody.get(f"/api/v1{path}", headers=headers).status_code == 200


def test_a_role_at_one_merchant_gives_nothing_at_another(anybody, person, merchant, other_merchant):
    person({merchant: Role.ADMIN, other_merchant: Role.VIEWER})
    forbidden(call(anybody, tokens(anybody, merchant="other")["access"], post=True))


def test_a_removed_member_is_out_at_once(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    Membership.objects.all().delete()
    unauthenticated(call(anybody, pair["access"]))
    renewed = refresh(anybody, pair["refresh"])
    if renewed.status_code == 200:
        unauthenticated(call(anybody, renewed.json()["access"]))


def test_a_lowered_role_counts_at_once(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    access = tokens(anybody)["access"]
    Membership.objects.update(role=Role.VIEWER)
    forbidden(call(anybody, access, post=True))


def test_a_deactivated_person_is_out_at_once(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    User.objects.update(is_active=False)
    unauthenticated(call(anybody, pair["access"]))
    unauthenticated(refresh(anybody, pair["refresh"]))


def test_a_deleted_persons_tokens_are_refused_and_never_a_500(anybody, person, merchant):
    user = person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    user.delete()
    unauthenticated(call(anybody, pair["access"]))
    unauthenticated(refresh(anybody, pair["refresh"]))


def test_test_tokens_and_live_tokens_do_not_meet(anybody, person, merchant, accept):
    person({merchant: Role.ADMIN})
    accept()
    assert len(call(anybody, tokens(anybody)["access"]).json()["results"]) == 1
    live = tokens(anybody, mode="live")["access"]
    assert call(anybody, live).json()["results"] == []
    assert call(anybody, live, post=True).status_code == 503


def test_an_access_token_ends_after_five_minutes(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    with time_machine.travel(NOON, tick=False):
        access = tokens(anybody)["access"]
    with time_machine.travel(NOON + timedelta(minutes=4, seconds=59), tick=False):
        assert call(anybody, access).status_code == 200
    with time_machine.travel(NOON + timedelta(minutes=5, seconds=1), tick=False):
        unauthenticated(call(anybody, access))


def test_a_refresh_token_works_once_and_its_heir_works(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    first = tokens(anybody, mode="test")["refresh"]
    response = refresh(anybody, first)
    assert response.status_code == 200
    second = response.json()
    assert second["refresh"] != first
    assert call(anybody, second["access"], post=True).status_code == 202
    assert Payment.objects.get().merchant == merchant
    unauthenticated(refresh(anybody, first))


def test_a_refresh_token_ends_after_a_day(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    with time_machine.travel(NOON, tick=False):
        token = tokens(anybody)["refresh"]
    with time_machine.travel(NOON + timedelta(days=1, seconds=1), tick=False):
        unauthenticated(refresh(anybody, token))


def test_neither_token_does_the_others_work(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    unauthenticated(call(anybody, pair["refresh"]))
    unauthenticated(refresh(anybody, pair["access"]))


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def forge(claims, key=django_settings.SIMPLE_JWT["SIGNING_KEY"], algorithm="HS256"):
    return jwt.encode(claims, key, algorithm=algorithm)


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


@pytest.mark.parametrize("claim", [{"iss": "somebody-else"}, {"aud": "another-api"}, {"token_type": "refresh"}])
def test_a_token_made_for_something_else_is_refused(anybody, claims, claim):
    unauthenticated(call(anybody, forge({**claims, **claim})))


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "jti", "token_type", "user_id", "merchant"])
def test_a_token_that_leaves_a_claim_out_is_refused(anybody, claims, missing):
    unauthenticated(call(anybody, forge({name: value for name, value in claims.items() if name != missing})))


def test_a_token_that_is_bound_to_no_merchant_is_refused(anybody, person, merchant):
    user = person({merchant: Role.ADMIN})
    unauthenticated(call(anybody, str(RefreshToken.for_user(user).access_token)))


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
    assert response.status_code in {400, 401}, response.content
    assert response["Content-Type"] == "application/problem+json"
