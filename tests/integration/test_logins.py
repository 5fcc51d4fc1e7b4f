"""People log in with a password, for one merchant and one mode, and may what their role allows there."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from merchants.models import Membership, Merchant, Role, User
from payments.models import Payment
from tests.logins import PASSWORD, ask, call, forbidden, refresh, tokens, unauthenticated

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db
#: See tests/doors.py.
BOTH_DOORS = True


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
        ({"username": "ada", "password": "x", "pin": "1"}, "/pin"),
        ({"username": "ada" * 51, "password": "x"}, "/username"),
        ({"username": "ada", "password": "x", "otp": "1" * 33}, "/otp"),
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
    unauthenticated(refresh(anybody, pair["refresh"]))


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


def test_neither_token_does_the_others_work(anybody, person, merchant):
    person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    unauthenticated(call(anybody, pair["refresh"]))
    unauthenticated(refresh(anybody, pair["access"]))
