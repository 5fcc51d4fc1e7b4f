"""No replay of much money goes out by one person's word alone, by whatever way they come, and none goes out twice."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, ProgrammingError, connection, connections, transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from console import decisions, four_eyes
from merchants import approvals
from merchants.audit import Who
from merchants.confirmation import CONFIRMED_AT
from merchants.models import Approval, AuditEntry, Membership, Role, User
from merchants.refusals import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalForbidden,
    ApprovalNotYours,
    ApprovalOutgrown,
    ApprovalOwn,
)
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.selections import Selection
from payments.errors import NothingToResolve
from tests.dying import fail, letter
from tests.logins import access_of

pytestmark = pytest.mark.django_db(transaction=True)

REPLAY, DISCARD = Resolution.Action.REPLAY, Resolution.Action.DISCARD
STAFF = ("view_deadletter", "resolve_deadletter", "view_approval", "decide_approval")
URL = "/api/v1/dead-letters/replay"
APPROVALS = "/api/v1/approvals"


@pytest.fixture(autouse=True)
def low_limit(settings):
    settings.FOUR_EYES_ABOVE = {"EUR": "20", "*": "1000"}


@pytest.fixture
def dead(accept):
    """So many dead payments of 10.00 EUR."""

    def make(count, **fields):
        return [fail(accept(key=f"k-{uuid4().hex[:8]}", **fields)) for _ in range(count)]

    return make


def who(name, via="console"):
    return Who(f"user:{name}", via)


def anything(_permission):
    return True


def replay(name="ada", selection=None, **options):
    given = {"reason": "the gateway is back", "rate": None, "who": who(name), **options}
    return decisions.decide_and_begin(selection or Selection(), REPLAY, **given)


def approve(approval, name="bob", may=anything):
    return approvals.approve(approval_id=approval.pk, who=who(name), may=may, reason="looks right")


@pytest.fixture
def asked(dead):
    """A replay of 30.00 EUR that ada has asked for."""
    dead(3)
    return replay()


def nothing_was_done():
    return not Resolution.objects.exists() and not DeadLetter.objects.exclude(state="open").exists()


def test_nobody_becomes_a_second_person_by_another_name():
    ada = User.objects.create_user("ada", password="x")
    ada.username = "ada2"
    with pytest.raises(ValidationError, match="A name stays"):
        ada.full_clean()


# --- when


def test_exactly_the_limit_is_decided_on_alone(dead):
    dead(2)
    assert replay().replayed == 0
    assert Resolution.objects.get().replayed == 2


def test_more_than_the_limit_waits_for_another_person(asked):
    assert isinstance(asked, Approval)
    assert (asked.state, asked.count, asked.sums) == ("pending", 3, {"EUR": "30.00"})
    assert asked.expires_at - asked.requested_at == timedelta(hours=24)
    assert nothing_was_done()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.reason) == ("user:ada", "approval.requested", "the gateway is back")


def test_each_currency_has_its_own_limit_and_the_rest_that_of_all_others(dead):
    dead(1, amount=100_000, currency="USD")
    assert isinstance(replay(), Resolution)
    dead(1, amount=100_001, currency="CHF")
    assert isinstance(replay(), Approval)


def test_what_is_blocked_and_may_come_free_counts_as_well(accept):
    for number in range(3):
        fail(accept(f"first-{number}", order_id=f"order-{number}"))
        accept(f"second-{number}", order_id=f"order-{number}")
    asked = replay()
    assert isinstance(asked, Approval)
    assert asked.sums == {"EUR": "30.00"}


def test_many_small_replays_of_a_day_are_no_way_around(dead):
    for _ in range(2):
        dead(1)
        assert isinstance(replay(), Resolution)
    dead(1)
    for name, via in (("ada", "user"), ("ada", "shell")):
        assert isinstance(replay(name, who=Who(f"{via}:{name}", "command")), Approval)
    assert isinstance(replay("bob"), Resolution)


def test_what_was_replayed_yesterday_or_with_another_persons_word_does_not_count(dead):
    dead(3)
    approve(replay())
    assert four_eyes.replayed_alone(who("ada")) == four_eyes.replayed_alone(who("bob")) == {}
    yesterday = {"actor": "user:ada", "via": "api", "action": four_eyes.ACTION, "after": {"sums": {"EUR": "20.00"}}}
    AuditEntry.objects.create(**yesterday, at=Now() - timedelta(hours=25))
    dead(2)
    assert isinstance(replay(), Resolution)


def test_two_replays_at_once_share_one_limit(dead):
    first, second = ([row.pk for row in dead(2)] for _ in range(2))

    def act(ids):
        try:
            return type(replay(selection=Selection(ids=tuple(ids))))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(act, (first, second))) == {Resolution, Approval}


def test_a_discard_moves_no_money_and_needs_nobody_else(dead):
    dead(3)
    outcome = decisions.decide(Selection(), DISCARD, reason="r", rate=None, who=who("ada"))
    assert isinstance(outcome, Resolution)


def test_letters_of_no_known_sum_count_nothing(dead):
    for _ in range(5):
        letter()
    assert isinstance(replay(), Resolution)


def test_who_asks_twice_for_the_same_has_asked_once(asked):
    assert replay().pk == asked.pk
    assert Approval.objects.count() == AuditEntry.objects.count() == 1


# --- who


def test_another_persons_word_has_it_done_at_once(asked):
    done = approve(asked)
    resolution = Resolution.objects.get()
    assert (resolution.decided_by, resolution.reason) == ("ada, approved by bob", "the gateway is back")
    assert (resolution.replayed, resolution.state) == (3, "done")
    assert (done.state, done.decided_by, done.result) == ("approved", "bob", f"resolution:{resolution.pk}")
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == [
        "approval.requested", "dead_letters.replay", "approval.approved",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ada", "ADA", "Ada", "ａｄａ", "ada "])
def test_nobody_approves_their_own_under_any_spelling(asked, name):
    for do in (approvals.approve, approvals.reject):
        with pytest.raises(ApprovalOwn):
            do(approval_id=asked.pk, who=who(name, via="api"), may=anything, reason="r")
    assert nothing_was_done()


@pytest.mark.parametrize("name", ["ada", "ADA"])
@pytest.mark.parametrize("state", ["approved", "rejected"])
def test_not_even_raw_sql_lets_one_person_have_four_eyes(asked, state, name):
    with pytest.raises(IntegrityError, match="approval_needs_another_person"), transaction.atomic():
        Approval.objects.update(state=state, decided_by=name, decided_at=Now())


def test_a_decision_is_never_taken_back_or_deleted_not_even_by_raw_sql(asked):
    approvals.withdraw(approval_id=asked.pk, who=who("ada"), reason="r")
    for sql in ("UPDATE merchants_approval SET state = 'approved', decided_by = 'x'", "DELETE FROM merchants_approval"):
        with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)


@pytest.mark.parametrize("missing", ["merchants.decide_approval", "messaging.resolve_deadletter"])
def test_who_may_not_do_it_alone_may_not_agree_to_it_either(asked, missing):
    with pytest.raises(ApprovalForbidden):
        approve(asked, may=lambda permission: permission != missing)
    assert nothing_was_done()


def test_only_who_asked_takes_it_back(asked):
    with pytest.raises(ApprovalNotYours):
        approvals.withdraw(approval_id=asked.pk, who=who("bob"), reason="r")
    assert approvals.withdraw(approval_id=asked.pk, who=who("ada", "api"), reason="r").state == "withdrawn"
    with pytest.raises(ApprovalDecided):
        approve(asked)
    assert nothing_was_done()


# --- what


def test_what_dies_later_is_not_in_it(asked, dead):
    (later,) = dead(1)
    approve(asked)
    later.refresh_from_db()
    assert later.state == "open"
    assert Resolution.objects.get().total == 3


@pytest.mark.parametrize("grown", ["sum", "letters"])
def test_what_has_grown_since_is_refused(dead, grown):
    dead(3)
    asked = replay(selection=Selection(cause="retries_exhausted"))
    if grown == "sum":
        Approval.objects.update(sums={"EUR": "29.99"})
    else:
        Approval.objects.update(count=2)
    with pytest.raises(ApprovalOutgrown):
        approve(asked)
    asked.refresh_from_db()
    assert asked.state == "pending"
    assert nothing_was_done()


def test_what_has_shrunk_since_is_done_as_far_as_it_goes(asked):
    row = DeadLetter.objects.first()
    decisions.decide_and_begin(Selection(ids=(row.pk,)), DISCARD, reason="r", rate=None, who=who("eve"))
    approve(asked)
    assert Resolution.objects.get(action="replay").total == 2


def test_letters_that_are_gone_are_told_and_nothing_is_done(asked):
    decisions.decide_and_begin(Selection(), DISCARD, reason="r", rate=None, who=who("eve"))
    with pytest.raises(NothingToResolve):
        approve(asked)
    asked.refresh_from_db()
    assert (asked.state, asked.result) == ("pending", "")


def test_nobody_approves_after_a_day(asked):
    Approval.objects.update(expires_at=Now() - timedelta(seconds=1))
    with pytest.raises(ApprovalExpired):
        approve(asked)
    assert nothing_was_done()
    assert approvals.reject(approval_id=asked.pk, who=who("bob"), may=anything, reason="r").state == "rejected"


def test_many_clicks_at_once_are_one_resolution(asked):
    def click(name):
        try:
            return approve(asked, name).state
        except ApprovalDecided:
            return "late"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(click, ["bob", "eve", "bob", "mallory"])) == ["approved", "late", "late", "late"]
    assert Resolution.objects.count() == 1
    assert OutboxMessage.objects.filter(options__has_key="replay_of").count() == 3


# --- the three ways


@pytest.fixture
def api(merchant):
    """A client with a person's token."""

    def make(name, *permissions):
        user = User.objects.create_user(name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions or STAFF))
        membership = Membership.objects.create(user=user, merchant=merchant, role=Role.VIEWER)
        token = access_of(membership, second_factor=True)
        return Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)

    return make


def console(name, *permissions):
    user, made = User.objects.get_or_create(username=name, defaults={"is_staff": True})
    if made:
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions or STAFF))
    client = Client()
    client.force_login(user)
    session = client.session
    session[CONFIRMED_AT] = time.time()
    session.save()
    return client


def send(client, path, body, **headers):
    return client.post(path, body, content_type="application/json", headers=headers)


def test_the_api_asks_and_another_person_approves(api, dead):
    dead(3)
    ada, bob, body = api("ada"), api("bob"), {"filter": {}, "reason": "gateway is back"}
    first = send(ada, URL, body, **{"Idempotency-Key": "key"})
    asked = first.json()
    assert (first.status_code, asked["object"], asked["state"]) == (202, "approval", "pending")
    assert first["Location"] == asked["links"]["self"] == f"{APPROVALS}/{asked['id']}"
    again = send(ada, URL, body, **{"Idempotency-Key": "key"})
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert [row["id"] for row in ada.get(APPROVALS, {"state": "pending"}).json()["results"]] == [asked["id"]]
    own = send(ada, f"{APPROVALS}/{asked['id']}/approve", {"reason": "mine"})
    assert (own.status_code, own.json()["code"]) == (403, "approval_own")
    assert send(bob, f"{APPROVALS}/{asked['id']}/approve", {}).status_code == 400
    done = send(bob, f"{APPROVALS}/{asked['id']}/approve", {"reason": "ok"})
    assert (done.status_code, done.json()["state"]) == (200, "approved")
    assert bob.get(done.json()["links"]["resolution"]).json()["replayed"] == 3
    late = send(bob, f"{APPROVALS}/{asked['id']}/reject", {"reason": "no"})
    assert (late.status_code, late.json()["code"]) == (409, "approval_decided")
    assert bob.get(f"{APPROVALS}/{uuid4()}").status_code == 404
    assert send(bob, f"{APPROVALS}/{uuid4()}/approve", {"reason": "r"}).status_code == 404


def test_who_asked_through_the_api_cannot_approve_in_the_console_nor_the_other_way(api, dead):
    dead(3)
    asked = send(api("ada"), URL, {"filter": {}, "reason": "r"}, **{"Idempotency-Key": "key"}).json()
    page = reverse("admin:merchants_approval_approve", args=[asked["id"]])
    shown = console("ada").post(page, {"reason": "mine"}, follow=True).content.decode()
    assert "another person must decide" in shown
    assert nothing_was_done()


def test_who_asked_can_withdraw_without_the_right_to_decide(api, dead):
    dead(3)
    ada = api("ada", "view_deadletter", "resolve_deadletter", "view_approval")
    asked = send(ada, URL, {"filter": {}, "reason": "r"}, **{"Idempotency-Key": "key"}).json()
    assert send(ada, f"{APPROVALS}/{asked['id']}/approve", {"reason": "r"}).status_code == 403
    assert send(ada, f"{APPROVALS}/{asked['id']}/withdraw", {"reason": "r"}).json()["state"] == "withdrawn"


def test_pages_by_cursor_show_each_approval_once(api, dead):
    dead(3)
    for number in range(3):
        replay(rate=number + 1)
    client, seen, url = api("bob"), [], f"{APPROVALS}?page_size=2"
    while url:
        page = client.get(url).json()
        seen += [row["id"] for row in page["results"]]
        url = page["next"] and page["next"].removeprefix("http://testserver")
    assert len(seen) == len(set(seen)) == 3
    assert client.get(f"{APPROVALS}?cursor=cD1nYXJiYWdl").status_code == 400


def test_the_command_asks_and_says_where_to_approve(dead):
    dead(3)
    with pytest.raises(CommandError, match=r"Nothing was sent yet.*second person.*/approve") as refusal:
        call_command("replay_dead_letters", "--reason", "r", "--by", "ada", stdout=StringIO())
    assert refusal.value.returncode == 3
    asked = Approval.objects.get()
    assert str(asked.pk) in str(refusal.value)
    assert nothing_was_done()
    with pytest.raises(ApprovalOwn):
        approve(asked, "ada")
    approve(asked)
    assert Resolution.objects.get().replayed == 3


def test_the_console_asks_shows_and_decides(dead):
    dead(3)
    ada, bob = console("ada"), console("bob")
    preview = reverse("admin:messaging_deadletter_preview")
    page = ada.get(preview, {"action": "replay"})
    assert "takes a second person" in page.content.decode()
    asked = ada.post(preview, {"proposal": page.context["proposal"].sign(), "reason": "gateway is back"}, follow=True)
    own = asked.content.decode()
    assert "another person decides" in own
    assert "Withdraw" in own
    assert "Approve, and have it done" not in own
    home = bob.get(reverse("admin:index")).content.decode()
    assert re.search(r">Approvals</span> <span[^>]*>1</span> <span[^>]*>wait for a second person<", home)
    approval = Approval.objects.get()
    shown = bob.get(reverse("admin:merchants_approval_change", args=[approval.pk])).content.decode()
    assert "30.00 EUR" in shown
    assert "Approve, and have it done" in shown
    act = {name: reverse(f"admin:merchants_approval_{name}", args=[approval.pk]) for name in ("approve", "reject")}
    assert "Say why" in bob.post(act["approve"], {"reason": " "}, follow=True).content.decode()
    assert bob.get(act["approve"]).status_code == 405
    assert nothing_was_done()
    done = bob.post(act["approve"], {"reason": "looks right"}, follow=True).content.decode()
    assert "ada, approved by bob" in bob.get(reverse("admin:messaging_resolution_changelist")).content.decode()
    assert f"resolution:{Resolution.objects.get().pk}" in done
    assert "already" in bob.post(act["reject"], {"reason": "no"}, follow=True).content.decode()


def test_who_may_only_look_decides_nothing(asked):
    viewer = console("vera", "view_approval")
    page = viewer.get(reverse("admin:merchants_approval_change", args=[asked.pk])).content.decode()
    assert 'name="reason"' not in page
    for name in ("approve", "reject", "withdraw"):
        url = reverse(f"admin:merchants_approval_{name}", args=[asked.pk])
        viewer.post(url, {"reason": "r"})
        assert console("nobody", "view_payment").post(url, {"reason": "r"}).status_code == 403
    asked.refresh_from_db()
    assert asked.state == "pending"


def test_what_waits_stands_first_and_a_longer_list_costs_no_more(asked, django_assert_max_num_queries):
    approvals.withdraw(approval_id=asked.pk, who=who("ada"), reason="r")
    waiting = replay(rate=1)
    approvals.withdraw(approval_id=replay(rate=2).pk, who=who("ada"), reason="r")
    bob = console("bob")
    with django_assert_max_num_queries(11):  # of them one looks for the device, and three are the session's
        listed = bob.get(reverse("admin:merchants_approval_changelist")).context["cl"].result_list
    assert listed[0].pk == waiting.pk
