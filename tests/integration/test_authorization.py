"""Every address with every kind of caller, against the table in `tests/matrix.py`: complete by construction."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from rest_framework.settings import api_settings

from merchants import api_keys, audit
from merchants.models import ApiKey, Membership, Merchant, Mode, Role, Scope, User
from merchants.principal import STAFF_SCOPES
from messaging.models import Resolution
from notifications.models import Contact, Preference
from payments.models import GatewayCircuit, GatewayEvent
from payments.operations import PaymentRequest, accept_payment
from tests import matrix
from tests.dying import letter
from tests.matrix import OPEN, Address, Row
from tests.notifying import endpoint, message, webhook

#: See tests/doors.py.
BOTH_DOORS = True

PASSWORD = "correct-horse-battery-staple"
#: Stands in every object of the merchant whose objects nobody else may see.
MARK = "m4rk-of-the-shop"
ROWS = matrix.rows()
ADDRESSES = {address.name: address for address in matrix.api()}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quick(settings):
    """Hundreds of requests and dozens of logins are the point here, and no attack."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LIMITS = dict.fromkeys(settings.LIMITS, "1000000/s")


# --- the table itself


def test_no_address_or_method_of_the_api_is_without_a_row():
    missing = [
        f"{address.name or address.path}  {method}  <scope, or `open`>  <what it acts on>"
        for address in matrix.api()
        for method in sorted(address.methods)
        if (address.name, method) not in ROWS
    ]
    assert not missing, "\n".join(["Add these lines to ACCESS in tests/matrix.py:", *missing])


def test_no_row_is_about_an_address_or_method_that_is_gone():
    known = {(address.name, method) for address in matrix.api() for method in address.methods}
    stale = [row.id for row in ROWS.values() if (row.name, row.method) not in known]
    assert not stale, f"Take these lines out of ACCESS in tests/matrix.py: {stale}"


def test_no_scope_is_unknown_to_the_table():
    used = {row.scope for row in ROWS.values()} - {OPEN}
    given = {scope.value for scope in Scope} | set(STAFF_SCOPES.values())
    unknown = (used | given) - matrix.holders().keys()
    assert not unknown, f"Say who has these in HOLDERS in tests/matrix.py: {sorted(unknown)}"


def test_no_object_of_a_kind_is_without_a_maker():
    missing = {row.acts_on for row in ROWS.values()} - {"-", "all"} - MAKERS.keys()
    assert not missing, f"Add a maker to MAKERS in this file: {sorted(missing)}"


def test_no_address_beside_api_and_console_is_open_by_oversight():
    names = [address.name or f"/{address.path}" for address in matrix.outside()]
    assert sorted(names) == sorted(matrix.PLAIN), "Say in PLAIN in tests/matrix.py why nothing of anybody's is there."


def test_no_address_of_the_api_hides_behind_the_name_of_another():
    twice = [name for name, times in Counter(address.name for address in matrix.api()).items() if times > 1]
    assert not twice, f"Only one address of each name is tried: {twice}"


# --- objects


def a_payment(merchant: Merchant) -> str:
    answer = accept_payment(
        merchant=merchant,
        mode=Mode.TEST,
        idempotency_key=f"key-{uuid4()}",
        request=PaymentRequest(amount=1000, currency="EUR", description=MARK, metadata={"note": MARK}, user_id=MARK),
        request_id="made-for-the-matrix",
        now=timezone.now(),
    )
    return answer.location.rpartition("/")[2]


def an_endpoint(merchant: Merchant) -> str:
    return str(endpoint(merchant, f"https://shop.example/{MARK}/{uuid4()}", description=MARK).pk)


def a_webhook(merchant: Merchant) -> str:
    made = webhook(endpoint(merchant, f"https://shop.example/{MARK}/{uuid4()}"))
    made.state, made.finished_at, made.revive_at, made.next_attempt_at = "failed", timezone.now(), None, None
    made.save()
    return str(made.pk)


def a_message(merchant: Merchant) -> str:
    made = message(merchant, recipient=f"{MARK}@shop.example", note=MARK)
    made.state, made.finished_at, made.revive_at, made.next_attempt_at = "failed", timezone.now(), None, None
    made.save()
    return str(made.pk)


def a_contact(merchant: Merchant) -> str:
    name = f"{MARK}-{uuid4()}"
    Contact.objects.create(merchant=merchant, mode=Mode.TEST, user_id=name, email=f"{MARK}@example.com")
    return name


def a_key(merchant: Merchant) -> str:
    key = api_keys.generate_key(Mode.TEST)
    return str(api_keys.register_key(key, merchant=merchant, mode=Mode.TEST, name=MARK).pk)


#: Kind of object -> makes one of a merchant, in test mode, and tells its id.
MAKERS: dict[str, Callable[[Merchant], str]] = {
    "payment": a_payment,
    "endpoint": an_endpoint,
    "webhook": a_webhook,
    "message": a_message,
    "contact": a_contact,
    "key": a_key,
}


@pytest.fixture
def shop(merchant):
    """The merchant whose objects are asked for, with one of each kind."""
    return SimpleNamespace(merchant=merchant, ids={kind: make(merchant) for kind, make in MAKERS.items()})


# --- callers


@dataclass(frozen=True)
class Caller:
    """Somebody. `scopes`: what they may do; None: nobody knows them. `at_home`: whether the objects are theirs."""

    name: str
    credential: str | None
    scopes: frozenset[str] | None = None
    at_home: bool = True

    @cached_property
    def client(self) -> Client:
        headers = {"authorization": f"Bearer {self.credential}"} if self.credential else {}
        return Client(headers=headers, raise_request_exception=False)


def with_key(name, merchant, *, mode=Mode.TEST, scopes=tuple(Scope), at_home=True, **fields):
    """A caller with an API key."""
    key = api_keys.generate_key(mode)
    api_keys.register_key(key, merchant=merchant, mode=mode, name="matrix", scopes=scopes)
    ApiKey.objects.filter(digest=api_keys.digest(key)).update(**fields)
    known = None if fields else frozenset(scope.value for scope in scopes) & matrix.scopes_of("key")
    return Caller(name, key, known, at_home)


def with_token(name, merchant, *holds, role=Role.VIEWER, staff=False, mode=Mode.TEST, at_home=True):
    """A caller with a person's token. `holds`: permissions of the console."""
    user = User.objects.create_user(name.replace(" ", "-"), password=PASSWORD, is_staff=staff)
    for permission in holds:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    Membership.objects.create(user=user, merchant=merchant, role=role)
    asked = {"username": user.get_username(), "password": PASSWORD, "mode": mode}
    answer = Client().post("/api/v1/token", asked, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return Caller(name, answer.json()["access"], frozenset(matrix.scopes_of(role, *(holds if staff else ()))), at_home)


def gone(caller, change):
    """The same caller, after what ends their access."""
    change()
    return Caller(caller.name, caller.credential, None)


def left(name, merchant, change):
    """An administrator to whom something happened after the login."""
    caller = with_token(name, merchant, role=Role.ADMIN)
    return gone(caller, lambda: change(User.objects.get(username=name.replace(" ", "-"))))


def made_with(name, merchant, other):
    """Who there is, by name."""
    hour, live = timedelta(hours=1), Mode.LIVE
    makers = {
        "nobody": lambda: Caller(name, None),
        "garbage key": lambda: Caller(name, "sk_test_garbage"),
        "garbage token": lambda: Caller(name, "eyJhbGciOiJub25lIn0.e30."),
        "revoked key": lambda: with_key(name, merchant, revoked_at=timezone.now() - hour),
        "expired key": lambda: with_key(name, merchant, expires_at=timezone.now() - hour),
        "key without scopes": lambda: with_key(name, merchant, scopes=()),
        "key of another merchant": lambda: with_key(name, other, at_home=False),
        "key of the other mode": lambda: with_key(name, merchant, mode=live, at_home=False),
        "staff without permissions": lambda: with_token(name, merchant, staff=True),
        "staff elsewhere": lambda: with_token(name, other, *STAFF_SCOPES, staff=True, at_home=False),
        "inactive person": lambda: left(name, merchant, set_inactive),
        "person without membership": lambda: left(name, merchant, lambda user: user.memberships.all().delete()),
        "deleted person": lambda: left(name, merchant, lambda user: user.delete()),
    }
    for scope in Scope:
        makers[f"key with {scope.value}"] = partial(with_key, name, merchant, scopes=[scope])
    for role in Role:
        makers[f"{role} here"] = partial(with_token, name, merchant, role=role)
        makers[f"{role} in live mode"] = partial(with_token, name, merchant, role=role, mode=live, at_home=False)
        makers[f"{role} elsewhere"] = partial(with_token, name, other, role=role, at_home=False)
    for permission in STAFF_SCOPES:
        makers[f"staff with {permission}"] = partial(with_token, name, merchant, permission, staff=True)
        makers[f"no staff with {permission}"] = partial(with_token, name, merchant, permission)
    return makers[name]()


def set_inactive(user):
    user.is_active = False
    user.save()


UNKNOWN = [
    "nobody", "garbage key", "garbage token", "revoked key", "expired key", "inactive person",
    "person without membership", "deleted person",
]  # fmt: skip
AT_HOME = [
    "key without scopes",
    *(f"key with {scope.value}" for scope in Scope),
    *(f"{role} here" for role in Role),
    "staff without permissions",
    *(f"staff with {permission}" for permission in STAFF_SCOPES),
    *(f"no staff with {permission}" for permission in STAFF_SCOPES),
]
ELSEWHERE = [
    "key of another merchant",
    "key of the other mode",
    *(f"{role} {where}" for role in Role for where in ("elsewhere", "in live mode")),
    "staff elsewhere",
]


@pytest.fixture
def caller(request, merchant, other_merchant):
    return made_with(request.param, merchant, other_merchant)


# --- the matrix


def ask(caller: Caller, row: Row, path: str):
    """A request that changes as little as it can: an empty body is refused wherever one is wanted."""
    send = getattr(caller.client, row.method.lower())
    return send(path) if row.method == "GET" else send(path, {}, content_type="application/json")


def path_of(row: Row, ids: dict[str, str]) -> str:
    """The row's address, of the object of its kind; of none where there is no such kind."""
    address = ADDRESSES[row.name]
    unknown = {"letter_id": 1, "resolution_id": 1, "gateway": "sandbox", "user_id": "a-payer"}
    return address.at(**{name: ids.get(row.acts_on, unknown.get(name, uuid4())) for name in address.arguments})


def rows_for(caller: Caller) -> list[Row]:
    """The rows that a caller tries. The schema is the same for all, and takes a second to write."""
    return [row for row in ROWS.values() if row.name != "schema" or caller.name == "nobody"]


def verdict(caller: Caller, row: Row) -> set[int]:
    """The status codes that a caller may get; 400, 409, 415 and so on mean that the door was open."""
    if row.scope == OPEN:
        # 401 and 404: for want of a password, a refresh token or a configured signature.
        return {200, 204, 400, 401, 404}
    if caller.scopes is None:
        return {401}
    if row.scope not in caller.scopes:
        return {403}
    if row.acts_on == "all":
        return {200, 202, 400, 404}
    if not caller.at_home and row.acts_on != "-":
        return {404}
    return {200, 201, 202, 204, 400, 409}


@pytest.mark.parametrize("caller", [*UNKNOWN, *AT_HOME, *ELSEWHERE], indirect=True)
def test_nobody_gets_through_a_door_that_is_not_theirs(caller, shop):
    wrong = {}
    for row in rows_for(caller):
        ids = {row.acts_on: MAKERS[row.acts_on](shop.merchant)} if row.acts_on in MAKERS else {}
        answer = ask(caller, row, path_of(row, ids))
        if answer.status_code not in verdict(caller, row):
            wrong[row.id] = f"{answer.status_code}, and not one of {sorted(verdict(caller, row))}"
    assert wrong == {}


@pytest.mark.parametrize("caller", ["admin here", "key without scopes", "staff elsewhere"], indirect=True)
def test_a_method_without_a_row_is_refused_to_everybody(caller, shop):
    wrong = {}
    for address in matrix.api():
        row = Row(address.name, "", "", next((r.acts_on for r in ROWS.values() if r.name == address.name), "-"))
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - address.methods:
            answer = caller.client.generic(method, path_of(row, shop.ids))
            if answer.status_code != 405:
                wrong[f"{method} {address.name}"] = answer.status_code
    assert wrong == {}


@pytest.mark.parametrize("caller", ELSEWHERE, indirect=True)
def test_an_object_of_others_cannot_be_told_from_one_that_does_not_exist(caller, shop):
    compared = 0
    for row in ROWS.values():
        if row.acts_on not in MAKERS or row.scope not in caller.scopes:
            continue
        theirs = ask(caller, row, path_of(row, shop.ids))
        missing = ask(caller, row, path_of(row, {row.acts_on: str(uuid4())}))
        assert theirs.status_code == missing.status_code == 404, row.id
        assert matrix.plain(theirs.json()) == matrix.plain(missing.json()), row.id
        assert {*theirs.headers} == {*missing.headers}, row.id
        compared += 1
    assert compared


@pytest.mark.parametrize("caller", ELSEWHERE, indirect=True)
def test_nothing_of_others_is_in_any_answer_or_changed_by_any_request(caller, shop):
    # Dead letters are of all merchants, and shown to staff alone.
    mine = [row for row in rows_for(caller) if row.acts_on != "all"]
    before = state_of(shop)
    for row in mine:
        path = path_of(row, shop.ids)
        answer = ask(caller, row, path)
        text = answer.content.decode().replace(json.dumps(path), "")
        assert MARK not in text, f"{row.id} shows {caller.name} what is not theirs"
        assert not [kind for kind, found in shop.ids.items() if found in text], row.id
    assert state_of(shop) == before


def state_of(shop):
    """All rows of the shop's objects, as they are."""
    models = ("payments.Payment", "notifications.WebhookEndpoint", "notifications.Delivery", "notifications.Contact")
    return {
        label: sorted(map(str, apps.get_model(label).objects.filter(merchant=shop.merchant, mode="test").values()))
        for label in models
    }


def test_the_matrix_would_notice_an_open_door(shop, other_merchant, monkeypatch):
    """The test is itself tested: with the permission taken away, callers without scopes get in, and it sees them."""
    monkeypatch.setattr("merchants.permissions.HasScope.has_permission", lambda *_: True)
    stranger = with_key("key without scopes", shop.merchant, scopes=())
    row = ROWS["payments", "GET"]
    assert ask(stranger, row, path_of(row, {})).status_code not in verdict(stranger, row)


def test_every_view_of_the_api_uses_the_permission_that_the_matrix_is_about():
    for address in matrix.api():
        open_ = all(ROWS[address.name, method].scope == OPEN for method in address.methods)
        permissions = list(address.entry.callback.cls.permission_classes)
        assert open_ or permissions == list(api_settings.DEFAULT_PERMISSION_CLASSES), address.name


# --- the console

#: Pages of the console that show people themselves, or nothing at all. Staff get them without any permission.
ONES_OWN = {
    "index", "login", "logout", "password_change", "password_change_done", "jsi18n", "confirm", "second_factor",
    "second_factor_code", "second_factor_codes",
}  # fmt: skip
#: What somebody may see of the console who has not logged in.
DOORS = {"login", "logout"}


@pytest.fixture
def console(shop, db):
    """Model -> the id of an object that is in the console."""
    with_key("one key", shop.merchant)
    letter(detail=MARK)
    Resolution.objects.create(action="replay", state="stopped", reason=MARK, decided_by=MARK, selection={})
    GatewayCircuit.objects.get_or_create(gateway="sandbox")
    Preference.objects.get_or_create(merchant=shop.merchant, channel="email", audience="payer")
    GatewayEvent.objects.create(
        gateway="sandbox", event_id=MARK, type="charge.succeeded", body={}, revive_at=timezone.now()
    )
    audit_entry(shop.merchant)
    User.objects.create_user(MARK, email=f"{MARK}@example.com")
    return {model: found for model in apps.get_models() if (found := model._default_manager.order_by("pk").first())}


def audit_entry(merchant):
    audit.record(audit.SYSTEM, "matrix.made", subject=MARK, merchant=merchant, reason=MARK)


def paths_of(console) -> list[tuple[Address, str]]:
    """Every page of the console, of an object where it is about one."""
    found = []
    for address in matrix.console():
        parts = address.path.split("/")
        model = next((model for model in console if model._meta.model_name in parts), None)
        ids = dict.fromkeys(address.arguments, console[model].pk if model else 1)
        ids |= {"app_label": "payments", "url": "no-such-page", "content_type_id": 1, "rest": "1/1/"}
        found.append((address, address.at(**ids)))
    return found


def test_the_walk_through_the_console_finds_its_pages(console):
    paths = {path for _, path in paths_of(console)}
    assert len(paths) > 60
    assert not [path for path in paths if "None" in path]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("who", ["nobody", "member", "staff"])
def test_no_page_of_the_console_shows_itself_without_permission(console, merchant, who, method):
    client = Client(raise_request_exception=False)
    if who != "nobody":
        user = User.objects.create_user("somebody", password=PASSWORD, is_staff=who == "staff")
        Membership.objects.create(user=user, merchant=merchant, role=Role.ADMIN)
    wrong = {}
    for address, path in paths_of(console):
        if who != "nobody":
            client.force_login(user)  # anew: logout is a page, too
            session = client.session
            session["confirmed_at"] = timezone.now().timestamp()
            session.save()
        answer = getattr(client, method)(path)
        shown = answer.status_code == 200 and address.name not in (ONES_OWN if who == "staff" else DOORS)
        if shown or answer.status_code >= 500 or MARK in content_of(answer):
            wrong[f"{method} {path}"] = answer.status_code
    assert wrong == {}


def content_of(answer) -> str:
    """What was sent, in one piece."""
    return (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode(errors="replace")
