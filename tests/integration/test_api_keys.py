"""Keys for services: people who administer a merchant make and revoke them, and no key ever makes another."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from merchants import api_keys
from merchants.models import ApiKey, AuditEntry, Mode, Role, Scope
from payments.models import Payment
from tests.logins import call, forbidden, tokens, unauthenticated

#: See tests/doors.py.
BOTH_DOORS = True

KEYS = "/api/v1/api-keys"

pytestmark = pytest.mark.django_db


class Caller:
    """Somebody with a token."""

    def __init__(self, client, credential):
        self.client, self.headers = client, {"authorization": f"Bearer {credential}"}

    def get(self, path=KEYS):
        return self.client.get(path, headers=self.headers)

    def post(self, body, path=KEYS):
        return self.client.post(path, body, content_type="application/json", headers=self.headers)

    def make(self, **fields):
        answer = self.post({"name": "till", **fields})
        assert answer.status_code == 201, answer.content
        return answer.json()

    def revoke(self, key_id, **fields):
        return self.post(fields, f"{KEYS}/{key_id}/revoke")


@pytest.fixture
def log_in(anybody, person):
    """A member of a merchant with a token."""

    def make(merchant, role=Role.ADMIN, name="ada", mode="test"):
        person({merchant: role}, name=name)
        return Caller(anybody, tokens(anybody, username=name, mode=mode)["access"])

    return make


@pytest.fixture
def ada(log_in, merchant):
    return log_in(merchant)


def test_a_key_is_in_the_answer_to_its_making_and_nowhere_else(anybody, ada):
    answer = ada.post({"name": "till"})
    made = answer.json()
    assert answer["Cache-Control"] == "no-store"
    assert answer["Location"] == f"{KEYS}/{made['id']}"
    key = made.pop("key")
    assert key.startswith("sk_test_")
    assert call(anybody, key, post=True).status_code == 202
    made["last_used_at"] = ApiKey.objects.get().last_used_at.isoformat().replace("+00:00", "Z")
    assert ada.get(answer["Location"]).json() == made
    assert ada.get().json()["results"] == [made]
    for shown in (ada.get(), ada.get(answer["Location"]), ada.revoke(made["id"])):
        assert key not in shown.content.decode()
    assert key not in str(list(ApiKey.objects.values()) + list(AuditEntry.objects.values()))


def test_the_beginning_of_a_key_tells_it_from_all_others(ada):
    prefixes = {ada.make()["prefix"] for _ in range(20)}
    assert len(prefixes) == 20
    assert {len(prefix) for prefix in prefixes} == {16}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SUPPORT, Role.OPERATOR])
def test_nobody_but_admins_has_to_do_with_keys(ada, log_in, merchant, role):
    made = ada.make()
    bob = log_in(merchant, role, "bob")
    for answer in (bob.get(), bob.get(f"{KEYS}/{made['id']}"), bob.post({"name": "x"}), bob.revoke(made["id"])):
        forbidden(answer)
    assert ApiKey.objects.get().revoked_at is None


def test_no_key_makes_sees_or_revokes_keys(anybody, ada, merchant):
    made = ada.make()
    key = Caller(anybody, made["key"])
    for answer in (key.get(), key.get(f"{KEYS}/{made['id']}"), key.post({"name": "x"}), key.revoke(made["id"])):
        forbidden(answer)
    ApiKey.objects.update(scopes=["api_keys:read", "api_keys:write"])  # whatever is stored
    forbidden(key.post({"name": "x"}))


@pytest.mark.parametrize("stranger", ["another merchant", "live mode"])
def test_nobody_sees_or_revokes_keys_of_another_merchant_or_mode(
    anybody, ada, log_in, merchant, other_merchant, stranger
):
    made = ada.make()
    if stranger == "another merchant":
        bob = log_in(other_merchant, name="bob")
    else:
        bob = log_in(merchant, name="bob", mode="live")
    assert bob.get().json()["results"] == []
    assert bob.get(f"{KEYS}/{made['id']}").status_code == bob.revoke(made["id"]).status_code == 404
    assert bob.get(f"{KEYS}/{uuid4()}").status_code == 404
    assert call(anybody, made["key"]).status_code == 200


def test_a_revoked_key_is_refused_at_once_and_for_ever(anybody, ada):
    made = ada.make()
    assert call(anybody, made["key"]).status_code == 200
    first = ada.revoke(made["id"], reason="It leaked.")
    assert first.status_code == 200
    assert first.json()["revoked_at"]
    unauthenticated(call(anybody, made["key"]))
    assert ada.revoke(made["id"]).json() == first.json()
    assert AuditEntry.objects.get(action="api_key.revoked").reason == "It leaked."


def test_making_and_revoking_are_written_down(ada, merchant):
    made = ada.make(scopes=["payments:read"])
    ada.revoke(made["id"])
    created, revoked = AuditEntry.objects.filter(action__startswith="api_key.").order_by("id")
    assert (created.action, revoked.action) == ("api_key.created", "api_key.revoked")
    for entry in (created, revoked):
        assert (entry.actor, entry.via, entry.merchant) == ("user:ada", "api", merchant)
        assert entry.subject == f"api_key:{made['id']}"
        assert entry.request_id
    assert created.after["scopes"] == ["payments:read"]


def test_a_key_may_only_what_it_was_given(anybody, ada):
    assert sorted(ada.make()["scopes"]) == sorted(Scope.values)
    reads = ada.make(scopes=["payments:read", "payments:read"])
    assert reads["scopes"] == ["payments:read"]
    assert call(anybody, reads["key"]).status_code == 200
    forbidden(call(anybody, reads["key"], post=True))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "x\x00"}, "/name"),
        ({"name": "till\nrevoked"}, "/name"),
        ({"name": "\u202ellit"}, "/name"),
        ({"name": "\u200b"}, "/name"),
        ({"name": "x", "scopes": []}, "/scopes"),
        ({"name": "x", "scopes": "payments:read"}, "/scopes"),
        ({"name": "x", "scopes": ["payments:*"]}, "/scopes/0"),
        ({"name": "x", "scopes": ["api_keys:write"]}, "/scopes/0"),
        ({"name": "x", "scopes": ["dead_letters:read"]}, "/scopes/0"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "x", "expires_at": "soon"}, "/expires_at"),
        ({"name": "x", "mode": "live"}, "/mode"),
        ({"name": "x", "merchant": "other"}, "/merchant"),
        ({"name": "x", "key": "sk_test_mine"}, "/key"),
    ],
)
def test_no_key_is_made_of_a_body_with_a_fault(ada, body, pointer):
    answer = ada.post(body)
    assert answer.status_code == 400, answer.content
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {pointer}
    assert not ApiKey.objects.exists()


def test_a_key_ends_when_it_was_said_to(anybody, ada):
    made = ada.make(expires_at=(timezone.now() + timedelta(hours=1)).isoformat())
    assert call(anybody, made["key"]).status_code == 200
    ApiKey.objects.update(expires_at=timezone.now())
    unauthenticated(call(anybody, made["key"]))


def test_a_merchant_has_at_most_fifty_keys_that_work_in_each_mode(ada, log_in, merchant, monkeypatch):
    monkeypatch.setattr(api_keys, "MOST", 3)
    made = [ada.make() for _ in range(3)]
    refused = ada.post({"name": "one more"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_api_keys")
    assert log_in(merchant, name="bob", mode="live").make()["mode"] == "live"
    ada.revoke(made[0]["id"])
    ApiKey.objects.filter(pk=made[1]["id"]).update(expires_at=timezone.now())
    ada.make()
    ada.make()
    assert ada.post({"name": "one more"}).status_code == 409


def test_the_list_goes_on_where_it_stopped_and_takes_no_foreign_cursor(ada):
    names = [ada.make(name=f"key {number}")["name"] for number in range(5)]
    seen, page = [], ada.get(f"{KEYS}?page_size=2")
    while True:
        seen += [key["name"] for key in page.json()["results"]]
        if page.json()["next"] is None:
            break
        page = ada.get(page.json()["next"])
    assert seen == names[::-1]
    assert ada.get(f"{KEYS}?cursor=cD1ub3BlbmF0YWxs").status_code == 400
    assert ada.get(f"{KEYS}?page_size=0").status_code == 400


# --- the mode of the key decides which gateway a payment may reach

LIVE = "payments.gateways.sandbox.SandboxGateway"


@pytest.fixture
def live_gateway(settings):
    """A gateway for live payments beside the one for tests."""
    test = settings.GATEWAYS["sandbox"]
    settings.GATEWAYS = {"real": {**test, "BACKEND": LIVE, "MODE": "live"}, "sandbox": test}


def key_of(merchant, mode):
    key = api_keys.generate_key(mode)
    api_keys.register_key(key, merchant=merchant, mode=mode, name="tests")
    return key


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, {}),
        ({"x-mode": "live", "mode": "live", "x-gateway": "real"}, {}),
        ({}, {"payment_method": "pm_live_card"}),
    ],
    ids=["plain", "headers", "method"],
)
def test_a_test_key_never_reaches_a_live_gateway(anybody, merchant, live_gateway, headers, body):
    headers |= {"authorization": f"Bearer {key_of(merchant, Mode.TEST)}", "Idempotency-Key": "k"}
    answer = anybody.post(
        "/api/v1/payments?mode=live", {"amount": 1, **body}, content_type="application/json", headers=headers
    )
    assert answer.status_code == 202, answer.content
    payment = Payment.objects.get()
    assert (payment.mode, payment.gateway) == ("test", "sandbox")


@pytest.mark.parametrize("field", ["mode", "gateway", "livemode", "merchant"])
def test_no_field_of_a_body_asks_for_another_mode(anybody, merchant, live_gateway, field):
    headers = {"authorization": f"Bearer {key_of(merchant, Mode.TEST)}", "Idempotency-Key": "k"}
    body = {"amount": 1, field: "live"}
    answer = anybody.post("/api/v1/payments", body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/{field}"]
    assert not Payment.objects.exists()


def test_a_live_key_beside_a_test_key_is_no_credential(anybody, merchant, live_gateway):
    """Which of them is meant, nothing says; and nothing is mixed of both."""
    headers = {"authorization": f"Bearer {key_of(merchant, Mode.LIVE)}", "x-api-key": key_of(merchant, Mode.TEST)}
    headers["Idempotency-Key"] = "k"
    answer = anybody.post("/api/v1/payments", {"amount": 1}, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "credentials_differ")
    assert not Payment.objects.exists()


def test_a_key_renamed_to_live_is_nobodys(anybody, merchant, live_gateway):
    key = key_of(merchant, Mode.TEST)
    unauthenticated(call(anybody, key.replace("sk_test_", "sk_live_"), post=True))
    assert not Payment.objects.exists()


def test_a_live_key_reaches_the_live_gateway_alone(anybody, merchant, live_gateway):
    headers = {"authorization": f"Bearer {key_of(merchant, Mode.LIVE)}", "Idempotency-Key": "k"}
    body = {"amount": 1, "payment_method": "tok_visa"}
    answer = anybody.post("/api/v1/payments", body, content_type="application/json", headers=headers)
    assert answer.status_code == 202, answer.content
    assert (Payment.objects.get().mode, Payment.objects.get().gateway) == ("live", "real")
