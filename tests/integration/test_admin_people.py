"""The console's people, merchants and keys: every change has its reason and its record, and makes nobody mighty."""

import re
import time

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from merchants import api_keys, confirmation
from merchants.admin import MerchantAdmin
from merchants.audit import SYSTEM
from merchants.models import ApiKey, AuditEntry, LoginSession, Membership, Merchant, Mode, Role, Scope, User
from tests.logins import PASSWORD, call, tokens, unauthenticated

pytestmark = pytest.mark.django_db

REASON = "Asked for by the merchant, ticket 7."


def desk(person, *, lately=True):
    """A client of somebody in the console, who has lately shown who they are, or has not."""
    client = Client(raise_request_exception=False)
    client.force_login(person)
    session = client.session
    session[confirmation.CONFIRMED_AT] = time.time() if lately else 0.0
    session.save()
    return client


@pytest.fixture
def root(person):
    return desk(person({}, name="root", is_staff=True, is_superuser=True))


@pytest.fixture
def clerk(person):
    """Staff who may change people, merchants and keys, and are no superuser."""
    user = person({}, name="clerk", is_staff=True)
    models = ("user", "merchant", "membership", "apikey")
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="merchants", content_type__model__in=models)
    )
    return user


def fields_of(client, url):
    """What a form holds as it is opened, as a browser would post it."""
    page = client.get(url)
    assert page.status_code == 200, page.content
    form = page.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    for formset in (inline.formset for inline in page.context["inline_admin_formsets"]):
        values |= {bound.html_name: bound.value() for bound in formset.management_form}
        values |= {bound.html_name: bound.value() for row in formset.initial_forms for bound in row}
    for name in ("last_login", "date_joined"):
        values.pop(name, None)
    return {name: value for name, value in values.items() if value is not None and value is not False}


def save(client, thing, **changes):
    """Open the page of a thing, change something and save."""
    url = reverse(f"admin:merchants_{thing._meta.model_name}_change", args=[thing.pk])
    posted = {**fields_of(client, url), "reason": REASON, **changes}
    return client.post(url, {name: value for name, value in posted.items() if value is not None})


def saved(answer):
    assert answer.status_code == 302, re.findall(r"errorlist.*?</ul>", answer.content.decode(), re.DOTALL)
    return answer


def entry(action):
    return AuditEntry.objects.get(action=action)


# --- people


def test_a_change_of_a_person_is_written_down_with_before_and_after(root, person):
    ada = person({})
    saved(save(root, ada, email="ada@example.com"))
    found = entry("user.changed")
    assert (found.actor, found.via, found.subject, found.reason) == ("user:root", "console", f"user:{ada.pk}", REASON)
    assert (found.before, found.after) == ({"email": ""}, {"email": "ada@example.com"})


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_nothing_is_changed_without_a_reason(root, person, reason):
    ada = person({})
    answer = save(root, ada, email="ada@example.com", reason=reason)
    assert answer.status_code == 200
    ada.refresh_from_db()
    assert ada.email == ""
    assert not AuditEntry.objects.exists()


def test_nothing_is_changed_by_who_has_not_lately_shown_who_they_are(person, merchant):
    user = person({}, name="root", is_staff=True, is_superuser=True)
    root = desk(user, lately=False)
    ada = person({merchant: Role.ADMIN})
    key, _ = make_key(merchant)
    pages = {
        reverse("admin:merchants_user_add"): {"username": "eve", "usable_password": "false"},
        reverse("admin:merchants_user_change", args=[ada.pk]): {"email": "x@example.com"},
        reverse("admin:merchants_merchant_change", args=[merchant.pk]): {"name": "x"},
        reverse("admin:auth_user_password_change", args=[ada.pk]): {"password1": PASSWORD, "password2": PASSWORD},
        reverse("admin:merchants_user_end_sessions", args=[ada.pk]): {},
        reverse("admin:merchants_apikey_add"): {},
        reverse("admin:merchants_apikey_revoke", args=[key.pk]): {},
    }
    for url, given in pages.items():
        typed = fields_of(desk(user), url) if url.endswith("/change/") else {}
        for answer in (root.get(url), root.post(url, {**typed, **given, "reason": REASON})):
            assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/admin/confirm/"), url
    assert not AuditEntry.objects.exclude(action="api_key.created").exists()
    assert not User.objects.filter(email="x@example.com").exists()


def test_a_new_person_is_written_down_without_the_password(root):
    url = reverse("admin:merchants_user_add")
    posted = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    assert root.post(url, posted).status_code == 200  # no reason
    saved(root.post(url, {**posted, "reason": REASON}))
    found = entry("user.created")
    assert found.after["username"] == "eve"
    told = str(list(AuditEntry.objects.values()))
    assert PASSWORD not in told
    assert User.objects.get(username="eve").password not in told


def test_nobody_is_deleted(root, person, merchant):
    ada = person({merchant: Role.ADMIN})
    for thing in (ada, merchant):
        url = reverse(f"admin:merchants_{thing._meta.model_name}_delete", args=[thing.pk])
        assert root.post(url, {"post": "yes", "reason": REASON}).status_code == 403
    url = reverse("admin:merchants_user_changelist")
    root.post(url, {"action": "delete_selected", "_selected_action": [ada.pk], "post": "yes"})
    assert User.objects.filter(pk=ada.pk).exists()


def test_who_is_deactivated_is_out_for_good(root, person, merchant, anybody):
    ada = person({merchant: Role.ADMIN})
    pair = tokens(anybody)
    saved(save(root, ada, is_active=None))
    assert LoginSession.objects.get().end == "revoked"
    saved(save(root, ada, is_active="on"))
    unauthenticated(call(anybody, pair["access"]))


def test_a_password_set_by_staff_ends_sessions_and_is_never_told(root, person, merchant, anybody):
    ada = person({merchant: Role.ADMIN})
    pair, new = tokens(anybody), "a-new-" + PASSWORD
    url = reverse("admin:auth_user_password_change", args=[ada.pk])
    assert root.get(url).status_code == 200
    posted = {"usable_password": "true", "password1": new, "password2": new, "set-password": ""}
    assert root.post(url, posted).status_code == 200  # no reason
    assert not AuditEntry.objects.filter(action="user.password_set").exists()
    saved(root.post(url, {**posted, "reason": REASON}))
    assert entry("user.password_set").reason == REASON
    assert LoginSession.objects.get().end == "changed"
    unauthenticated(call(anybody, pair["access"]))
    assert new not in str(list(AuditEntry.objects.values()))


def test_all_of_a_persons_sessions_can_be_ended_with_a_reason(root, person, merchant, anybody):
    ada, other = person({merchant: Role.ADMIN}), person({merchant: Role.ADMIN}, name="bob")
    pairs, untouched = [tokens(anybody), tokens(anybody)], tokens(anybody, username=other.username)
    page = root.get(reverse("admin:merchants_user_change", args=[ada.pk])).content.decode()
    assert "In 2 sessions at the API" in page
    url = reverse("admin:merchants_user_end_sessions", args=[ada.pk])
    assert "2 sessions" in root.get(url).content.decode()
    assert root.post(url, {"reason": ""}).status_code == 200
    assert call(anybody, pairs[0]["access"]).status_code == 200
    saved(root.post(url, {"reason": REASON}))
    for pair in pairs:
        unauthenticated(call(anybody, pair["access"]))
    assert call(anybody, untouched["access"]).status_code == 200
    assert (entry("user.sessions_ended").reason, entry("user.sessions_ended").after) == (REASON, {"count": 2})


def test_the_list_of_sessions_shows_nothing_that_a_token_could_be_made_from(root, person, merchant, anybody):
    person({merchant: Role.ADMIN})
    tokens(anybody)
    session = LoginSession.objects.get()
    url = reverse("admin:merchants_loginsession_change", args=[session.pk])
    for shown in (root.get(url), root.get(reverse("admin:merchants_loginsession_changelist"), {"state": "open"})):
        text = shown.content.decode()
        assert str(session.pk) in text
        assert str(session.current) not in text
        assert session.current.hex not in text
        assert session.password_stamp not in text
    assert root.post(url, {"end": "logout"}).status_code == 403


# --- nobody makes themselves mighty


@pytest.mark.parametrize("power", ["is_superuser", "is_staff"])
def test_staff_who_may_change_people_grant_no_powers(clerk, person, power):
    ada = person({})
    saved(save(desk(clerk), ada, email="ada@example.com", **{power: "on"}))
    ada.refresh_from_db()
    assert ada.email == "ada@example.com"
    assert getattr(ada, power) is False


def test_staff_who_may_change_people_grant_no_permissions(clerk, person):
    ada = person({})
    saved(save(desk(clerk), ada, user_permissions=[Permission.objects.first().pk]))
    assert not ada.user_permissions.exists()


@pytest.mark.parametrize("who", ["clerk", "root", "colleague"])
def test_staff_who_may_change_people_change_no_staff_nor_themselves(clerk, root, person, who):
    person({}, name="colleague", is_staff=True)
    target = User.objects.get(username=who)
    client, was = desk(clerk), target.password
    for name in ("merchants_user_change", "auth_user_password_change", "merchants_user_end_sessions"):
        posted = {"reason": REASON, "username": "mine", "email": "mine@example.com", "usable_password": "true"}
        posted |= {"password1": PASSWORD * 2, "password2": PASSWORD * 2, "set-password": ""}
        assert client.post(reverse(f"admin:{name}", args=[target.pk]), posted).status_code == 403
    target.refresh_from_db()
    assert (target.username, target.email, target.password) == (who, "", was)


def test_who_is_created_by_staff_has_no_powers(clerk):
    posted = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    url = reverse("admin:merchants_user_add")
    saved(desk(clerk).post(url, {**posted, "reason": REASON, "is_superuser": "on", "is_staff": "on"}))
    eve = User.objects.get(username="eve")
    assert not eve.is_superuser
    assert not eve.is_staff


def test_no_superuser_takes_away_their_own_powers(root, merchant):
    me = User.objects.get(username="root")
    saved(save(root, me, email="root@example.com", is_superuser=None, is_staff=None, is_active=None))
    me.refresh_from_db()
    assert (me.email, me.is_superuser, me.is_staff, me.is_active) == ("root@example.com", True, True, True)


def test_nobody_gets_another_name_under_which_the_record_does_not_know_them(root, person):
    ada = person({}, is_staff=True)
    saved(save(root, ada, username="somebody", email="ada@example.com"))
    ada.refresh_from_db()
    assert (ada.username, ada.email) == ("ada", "ada@example.com")


@pytest.mark.parametrize("key", ["abc", "0", "-1", "9" * 30])
@pytest.mark.parametrize("page", ["change", "password", "end-sessions", "history"])
def test_a_page_of_nobody_is_no_500(root, key, page):
    url = f"{reverse('admin:merchants_user_changelist')}{key}/{page}/"
    assert root.get(url).status_code in {302, 404}
    assert root.post(url, {"reason": REASON}).status_code in {302, 404}


def member(row, user, role, **fields):
    return {f"memberships-{row}-{name}": value for name, value in {"user": user, "role": role, **fields}.items()}


def test_nobody_gives_themselves_a_role_at_a_merchant(clerk, merchant, person):
    more = {"memberships-TOTAL_FORMS": "1"}
    answer = save(desk(clerk), merchant, **more, **member(0, clerk.pk, "admin"))
    assert answer.status_code == 200
    assert "given to you by somebody else" in answer.content.decode()
    assert not Membership.objects.exists()


# --- merchants and their members


def test_a_change_of_members_is_written_down_one_by_one(root, merchant, person):
    ada = person({merchant: Role.VIEWER})
    first = Membership.objects.get()
    saved(save(root, merchant, **{"memberships-0-role": "operator"}))
    found = entry("membership.changed")
    assert (found.subject, found.merchant, found.reason) == (f"membership:{first.pk}", merchant, REASON)
    assert (found.before, found.after) == ({"role": "viewer"}, {"role": "operator"})
    bob = person({}, name="bob")
    saved(save(root, merchant, **{"memberships-TOTAL_FORMS": "2"}, **member(1, bob.pk, "admin", merchant=merchant.pk)))
    assert entry("membership.created").after["role"] == "admin"
    assert entry("membership.created").after["user"] == bob.pk
    saved(save(root, merchant, **{"memberships-0-DELETE": "on"}))
    assert entry("membership.deleted").before["user"] == ada.pk
    assert not AuditEntry.objects.filter(action="merchant.changed").exists()


def test_a_merchants_limits_are_written_down(root, merchant):
    ceilings = '{"EUR": "5000.00", "JPY": "100000"}'
    saved(save(root, merchant, creation_burst="7", creation_rate="0.5", amount_ceilings=ceilings))
    found = entry("merchant.changed")
    assert found.before == {"creation_burst": None, "creation_rate": None, "amount_ceilings": {}}
    assert found.after["amount_ceilings"] == {"EUR": "5000.00", "JPY": "100000"}
    assert Merchant.objects.get().creation_burst == 7


@pytest.mark.parametrize("none", ["", "null", "{}"])
def test_taking_all_ceilings_away_never_fails(root, merchant, none):
    Merchant.objects.update(amount_ceilings={"EUR": "1"})
    saved(save(root, merchant, amount_ceilings=none))
    assert Merchant.objects.get().amount_ceilings == {}


@pytest.mark.parametrize(
    "ceilings",
    [
        "[]x",
        '["EUR"]',
        '{"EUR": 5000}',
        '{"eur": "1"}',
        '{"EURO": "1"}',
        '{"EUR": "1e9"}',
        '{"EUR": "-1"}',
        '{"EUR": null}',
    ],
)
def test_a_ceiling_that_could_not_be_read_is_never_saved(root, merchant, ceilings):
    answer = save(root, merchant, amount_ceilings=ceilings)
    assert set(answer.context["adminform"].form.errors) == {"amount_ceilings"}
    assert Merchant.objects.get().amount_ceilings == {}
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "fault", [{"creation_burst": "0"}, {"creation_rate": "0"}, {"creation_rate": "nan"}, {"declines_per_payer": "-1"}]
)
def test_a_limit_that_is_none_is_never_saved(root, merchant, fault):
    assert save(root, merchant, **fault).status_code == 200
    assert not AuditEntry.objects.exists()


# --- API keys


def make_key(merchant):
    return api_keys.create(
        merchant=merchant,
        mode=Mode.TEST,
        name="shop",
        scopes=list(Scope),
        expires_at=None,
        who=SYSTEM,
        now=timezone.now(),
    )


def ask_for_key(client, **fields):
    posted = {
        "merchant": "shop",
        "mode": "test",
        "name": "till",
        "scopes": ["payments:read"],
        "reason": REASON,
        **fields,
    }
    return client.post(reverse("admin:merchants_apikey_add"), posted)


def test_a_key_is_shown_once_and_works(root, merchant, anybody):
    assert root.get(reverse("admin:merchants_apikey_add")).status_code == 200
    answer = ask_for_key(root)
    assert "no-store" in answer["Cache-Control"]
    key = re.search(r"sk_test_[\w-]{43}", answer.content.decode())[0]
    assert call(anybody, key).status_code == 200
    record = ApiKey.objects.get()
    for name, arguments in (("change", [record.pk]), ("changelist", [])):
        page = root.get(reverse(f"admin:merchants_apikey_{name}", args=arguments)).content.decode()
        assert record.prefix in page
        assert key not in page
    assert (entry("api_key.created").reason, entry("api_key.created").actor) == (REASON, "user:root")
    assert key not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    "fault",
    [
        {"reason": ""},
        {"scopes": []},
        {"scopes": ["api_keys:write"]},
        {"merchant": "nobody"},
        {"name": ""},
        {"mode": "x"},
        {"expires_at": "2020-01-01T00:00"},
    ],
)
def test_no_key_is_made_of_a_form_with_a_fault(root, merchant, fault):
    assert ask_for_key(root, **fault).status_code == 200
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_with_a_reason_at_once(root, merchant, anybody):
    record, key = make_key(merchant)
    url = reverse("admin:merchants_apikey_revoke", args=[record.pk])
    assert root.get(url).status_code == 200
    assert root.post(url, {"reason": " "}).status_code == 200
    assert call(anybody, key).status_code == 200
    saved(root.post(url, {"reason": REASON}))
    unauthenticated(call(anybody, key))
    assert entry("api_key.revoked").reason == REASON


@pytest.mark.parametrize("name", ["add", "revoke"])
def test_staff_without_the_permission_make_and_revoke_no_keys(person, merchant, name):
    record, _ = make_key(merchant)
    client = desk(person({}, name="viewer", is_staff=True))
    arguments = [] if name == "add" else [record.pk]
    assert client.post(reverse(f"admin:merchants_apikey_{name}", args=arguments), {"reason": REASON}).status_code == 403
    record.refresh_from_db()
    assert record.revoked_at is None


def test_who_may_only_look_sees_no_field_to_fill_in(person, merchant):
    viewer = person({merchant: Role.ADMIN}, name="viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "view_merchant", "view_apikey"]))
    client = desk(viewer)
    for thing in (viewer, merchant):
        page = client.get(reverse(f"admin:merchants_{thing._meta.model_name}_change", args=[thing.pk]))
        assert page.status_code == 200
        assert 'name="reason"' not in page.content.decode()
        assert save_blindly(client, thing).status_code == 403


def save_blindly(client, thing):
    return client.post(reverse(f"admin:merchants_{thing._meta.model_name}_change", args=[thing.pk]), {"reason": REASON})


# --- what may be deleted at all


def test_nothing_is_deleted_without_a_reason_and_what_was_is_written_down(root, merchant, monkeypatch):
    monkeypatch.delattr(MerchantAdmin, "has_delete_permission")  # another room's pages may have it
    url = reverse("admin:merchants_merchant_delete", args=[merchant.pk])
    assert 'name="reason"' in root.get(url).content.decode()
    assert "Say why" in root.post(url, {"post": "yes", "reason": " "}, follow=True).content.decode()
    assert Merchant.objects.exists()
    saved(root.post(url, {"post": "yes", "reason": REASON}))
    assert not Merchant.objects.exists()
    found = entry("merchant.deleted")
    assert (found.before["slug"], found.after, found.reason) == ("shop", None, REASON)
