"""Dead letters in the console: looking changes nothing; who may decides, with a reason, and once."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client
from django.urls import reverse

from console.causes import CHECKS, DEFECT, words_for
from merchants.models import User
from messaging import resolutions
from messaging.models import DeadLetter, OutboxMessage, Resolution
from messaging.selections import Selection
from payments.declines import ERRORS
from payments.models import Payment
from tests.decisions import resolve
from tests.dying import fail, foreign, letter
from tests.outbox import work

pytestmark = pytest.mark.django_db

LIST = reverse("admin:messaging_deadletter_changelist")
PREVIEW = reverse("admin:messaging_deadletter_preview")
SCRIPT = "<script>alert(1)</script>"
PROPOSAL = re.compile(r'name="proposal" value="([^"]+)"')


def person(name, *permissions, **fields):
    user = User.objects.create_user(name, is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def support():
    """Sees and resolves, and nothing else."""
    return person("sam", "view_deadletter", "resolve_deadletter")


@pytest.fixture
def viewer():
    return person("vera", "view_deadletter")


def text(response, status=200):
    assert response.status_code == status, response.content
    return response.content.decode()


def look(client, action="replay", **query):
    """The preview page, and the proposal in its form."""
    page = text(client.get(PREVIEW, {"action": action, **query}))
    found = PROPOSAL.search(page)
    return page, found and found[1]


def post(client, proposal, reason="the gateway is back", **fields):
    return client.post(PREVIEW, {"proposal": proposal, "reason": reason, **fields})


def decide(client, action="replay", **query):
    """Look and decide; the resolution."""
    response = post(client, look(client, action, **query)[1])
    assert response.status_code == 302, response.content.decode()
    return Resolution.objects.get(pk=re.search(r"/resolution/(\d+)/", response["Location"])[1])


def shown(client, **query):
    return [row.pk for row in client.get(LIST, query).context["cl"].result_list]


def page_of(client, row):
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return text(client.get(reverse(name, args=[row.pk])))


# --- the list


def test_the_list_shows_what_is_open_and_hides_what_is_done(support):
    done, waiting = letter(), letter()
    resolve(Selection(ids=(done.pk,)), Resolution.Action.DISCARD, reason="r", by="b")
    resolutions.work_off(Resolution.objects.get().pk)
    assert shown(support) == shown(support, state="open") == [waiting.pk]
    assert shown(support, state="discarded") == [done.pk]
    assert shown(support, state="all") == [waiting.pk, done.pk]


def test_the_open_letters_are_grouped_by_cause_each_with_a_link_to_its_list(support):
    letter(), letter(minutes_ago=90), foreign()
    groups = support.get(LIST).context["causes"]
    assert [(row["cause"], row["count"]) for row in groups] == [("ValueError", 2), ("not_json", 1)]
    assert groups[0]["oldest"] < groups[0]["newest"]
    for row in groups:
        listed = support.get(f"{LIST}?{row['query']}").context["cl"].result_list
        assert {found.cause for found in listed} == {row["cause"]}
        assert len(listed) == row["count"]


def test_every_filter_narrows_down_and_none_lies(support):
    old, defect, strange = letter(minutes_ago=3 * 60), letter(), foreign()
    assert shown(support, queue="payment_initiation") == [strange.pk]
    assert shown(support, actor="process_payments") == [defect.pk, old.pk]
    assert shown(support, cause="ValueError", age="hour") == [defect.pk]
    assert shown(support, age="day") == [strange.pk, defect.pk, old.pk]
    for name in ("cause", "state"):
        assert support.get(LIST, {name: "\0"}).status_code == 400


@pytest.mark.parametrize("name", ["payment", "bare payment", "message", "request"])
def test_a_letter_is_found_by_any_whole_id_also_when_it_is_closed(support, accept, name):
    payment = accept(order_id="one")
    mine, _ = fail(payment), letter()
    decide(support, ids=str(mine.pk))
    terms = {
        "payment": mine.subject, "bare payment": str(payment.pk),
        "message": str(mine.message_id), "request": payment.request_id,
    }  # fmt: skip
    assert shown(support, q=f" {terms[name]} ") == [mine.pk]


@pytest.mark.parametrize("count", [1, 40])
def test_a_longer_list_costs_no_more_queries(support, django_assert_max_num_queries, count):
    for _ in range(count):
        letter()
    support.get(LIST)
    with django_assert_max_num_queries(14):
        assert len(shown(support)) == count


def test_the_list_never_reads_bodies(support, django_assert_max_num_queries):
    foreign(b"x" * 60_000)
    with django_assert_max_num_queries(14) as queries:
        support.get(LIST)
    assert not any('"body"' in query["sql"] or '"traceback"' in query["sql"] for query in queries.captured_queries)


def test_all_that_match_is_not_offered_where_more_would_match_than_is_shown(support):
    letter()
    offer = "Replay all that match"
    for understood in ({}, {"cause": "ValueError"}, {"state": "open", "age": "hour"}, {"o": "1"}, {"_facets": "True"}):
        assert offer in text(support.get(LIST, understood)), understood
    for beyond in ({"q": "something"}, {"state": "all"}, {"state": "replayed"}, {"resolution__id__exact": "1"}):
        assert offer not in text(support.get(LIST, beyond)), beyond


# --- one letter


def test_a_letter_tells_in_plain_words_what_happened_and_what_to_do(support, accept):
    payment = accept()
    page = page_of(support, fail(payment))
    assert "Nothing was charged." in page
    assert "Replay it when the gateway works again." in page
    assert "would send it out again" in page
    assert reverse("admin:payments_payment_change", args=[payment.pk]) in page
    assert "Replay…" in page
    assert "Discard…" in page


def test_a_payments_page_leads_to_its_letters(accept):
    admin = person("root", is_superuser=True)
    payment = accept()
    assert reverse("admin:messaging_deadletter_change", args=[fail(payment).pk]) in page_of(admin, payment)


@pytest.mark.parametrize(
    "cause",
    [
        "retries_exhausted", "expired", "outcome_unknown", "delivery_limit", "rejected", "undecodable", "given_up",
        "not_json", "too_large", "invalid", "merchant_unknown", "idempotency_key_missing", "idempotency_key_invalid",
        "idempotency_key_reused", "order_payment_active", "order_already_paid", "no_live_gateway",
        "payment_method_required", "unknown_actor", *CHECKS,
    ],
)  # fmt: skip
def test_no_known_cause_is_called_a_defect(cause):
    words = words_for(cause)
    assert DEFECT not in (words, words.happened)
    assert words.happened.endswith(".")
    assert (cause in ERRORS) == (ERRORS.get(cause, "\0") in words.happened)


def test_nothing_that_came_from_outside_is_ever_markup(support):
    poison = letter(
        cause=SCRIPT, actor=SCRIPT, queue=SCRIPT, detail=SCRIPT, traceback=SCRIPT, payload={"ids": [SCRIPT]},
        subject=SCRIPT, request_id=SCRIPT,
    )  # fmt: skip
    strange = foreign(f"{SCRIPT}\0\xff\u202e".encode())
    resolution = decide(support, "discard", ids=f"{poison.pk}")
    pages = [
        text(support.get(LIST)), page_of(support, poison), page_of(support, strange), page_of(support, resolution),
        look(support, ids=str(strange.pk))[0], text(support.get(LIST, {"q": SCRIPT, "cause": SCRIPT})),
        text(post(support, look(support, ids=str(strange.pk))[1], SCRIPT, rate=SCRIPT)),
    ]  # fmt: skip
    for page in pages:
        assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)" in pages[1]
    assert "&lt;script&gt;alert(1)" in pages[2]
    assert "\u202e" not in pages[2]


def test_no_page_needs_scripts_or_styles_in_itself(support, accept):
    row = fail(accept())
    pages = [look(support)[0], page_of(support, row), page_of(support, decide(support))]
    for page in (*pages, text(support.get(LIST))):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_a_huge_body_is_shown_in_part_with_its_size(support):
    page = page_of(support, foreign(b"y" * 100_000, cause="too_large"))
    assert "100000 bytes came, the first 65536 were kept" in page
    assert 8192 <= page.count("y") < 9000
    assert "would be blocked" in page


def test_a_letter_knows_its_replay_and_the_letter_before_it(support):
    first = letter()
    decide(support, ids=str(first.pk))
    first.refresh_from_db()
    second = letter(replay_of=first.pk)
    assert f"letter {second.pk}" in page_of(support, first)
    assert str(first.replayed_as) in page_of(support, first)
    assert f"letter {first.pk}" in page_of(support, second)
    assert "by sam" in page_of(support, first)


# --- the preview


def test_the_preview_counts_sums_and_skips_and_says_why(support, accept):
    for number, (amount, currency) in enumerate([(1000, "EUR"), (250, "EUR"), (500, "JPY")]):
        fail(accept(key=f"k-{number}", amount=amount, currency=currency))
    blocked = accept(key="blocked", order_id="o")
    fail(blocked)
    accept(key="holder", order_id="o")
    settled = fail(accept(key="settled"), code="retries_exhausted")
    resolve(Selection(ids=(settled.pk,)), Resolution.Action.REPLAY, reason="r", by="b")
    resolutions.work_off(Resolution.objects.get().pk)
    letter(subject=settled.subject, cause="Other")
    Payment.objects.filter(pk=settled.subject.removeprefix("payment:")).update(amount_captured=1000)
    page, _ = look(support)
    for told in (
        "Replay 5 dead letters?",
        "12.50 EUR, 500 JPY",
        "its order has another payment under way",
        "paid late",
    ):
        assert told in page, told
    rows = [[int(cell) for cell in re.findall(r'class="number">(\d+)<', row)] for row in page.split("<tr>")]
    assert [row[0] for row in rows if len(row) == 1][:3] == [3, 1, 1]


def test_looking_never_changes_anything(support, accept):
    row = fail(accept())
    before = list(DeadLetter.objects.values()), list(Payment.objects.values()), OutboxMessage.objects.count()
    look(support), look(support, "discard", ids=str(row.pk)), look(support, "nonsense", ids="x,;--,9" * 50)
    support.get(LIST), page_of(support, row)
    for name in ("stop", "resume"):
        assert support.get(reverse(f"admin:messaging_resolution_{name}", args=[1])).status_code == 405
    assert before == (list(DeadLetter.objects.values()), list(Payment.objects.values()), OutboxMessage.objects.count())
    assert not Resolution.objects.exists()


def test_what_was_previewed_is_what_is_resolved(support):
    for _ in range(3):
        letter()
    _, proposal = look(support, cause="ValueError")
    later = letter()
    other = foreign()
    post(support, proposal)
    assert Resolution.objects.get().total == 3
    assert set(DeadLetter.objects.filter(state="open")) == {later, other}


def test_a_selection_that_has_grown_is_shown_again_before_anything_is_done(support):
    letter(cause="KeyError"), letter()
    _, proposal = look(support, cause="ValueError")
    DeadLetter.objects.update(cause="ValueError")  # as when it dies again of another cause
    page = text(post(support, proposal, "my reason"))
    assert "these were 1 dead letter when you looked, now they are 2" in page
    assert "my reason" in page
    assert not Resolution.objects.exists()
    assert post(support, PROPOSAL.search(page)[1]).status_code == 302
    assert Resolution.objects.get().total == 2


def test_a_decision_without_a_reason_is_refused_and_says_so(support):
    letter()
    _, proposal = look(support)
    for reason in ("", "  "):
        assert "Say why" in text(post(support, proposal, reason))
    assert "Ensure this value is greater" in text(post(support, proposal, rate="0"))
    assert not Resolution.objects.exists()


@pytest.mark.parametrize("typed", ["", "100", "1010", "all"])
def test_many_letters_are_resolved_only_by_who_types_their_number(support, typed):
    for _ in range(101):
        letter()
    page, proposal = look(support)
    assert "Type their number, 101" in page
    assert "Type 101, the number of letters" in text(post(support, proposal, typed=typed))
    assert not Resolution.objects.exists()
    assert post(support, proposal, typed=" 101 ").status_code == 302


@pytest.mark.parametrize("proposal", ["", "garbage", "eyJhIjoxfQ:1:x"])
def test_a_proposal_that_was_not_shown_is_never_carried_out(support, proposal):
    letter()
    response = support.post(PREVIEW, {"proposal": proposal, "reason": "r"}, follow=True)
    assert "too old to decide on" in text(response)
    assert not Resolution.objects.exists()


# --- deciding


def test_a_replay_sends_out_what_goes_and_says_what_came_of_the_rest(support, accept):
    goes, blocked = fail(accept(key="goes")), fail(accept(key="blocked", order_id="o"))
    accept(key="holder", order_id="o")
    resolution = decide(support, ids=f"{goes.pk},{blocked.pk}")
    assert (resolution.state, resolution.replayed, resolution.blocked) == ("done", 1, 1)
    assert (resolution.decided_by, resolution.reason) == ("sam", "the gateway is back")
    assert Payment.objects.get(pk=goes.subject.removeprefix("payment:")).status == "pending"
    page = page_of(support, resolution)
    for told in ("2 of 2", "its order has another payment under way", "<progress", "Chosen one by one"):
        assert told in page, told
    assert 'http-equiv="refresh"' not in page
    assert "the gateway is back" in text(support.get(reverse("admin:messaging_resolution_changelist")))


def test_a_discard_sends_nothing(support, accept):
    row = fail(accept())
    before = OutboxMessage.objects.count()
    resolution = decide(support, "discard", cause="retries_exhausted")
    row.refresh_from_db()
    assert (row.state, resolution.discarded, OutboxMessage.objects.count()) == ("discarded", 1, before)


def test_the_first_hundred_need_no_worker_and_the_rest_goes_on_by_itself(support):
    for _ in range(130):
        letter()
    _, proposal = look(support)
    post(support, proposal, typed="130")
    resolution = Resolution.objects.get()
    assert (resolution.state, resolution.replayed, resolution.total) == ("running", 100, 130)
    assert OutboxMessage.objects.filter(actor="continue_resolutions").count() == 1
    page = page_of(support, resolution)
    assert 'http-equiv="refresh"' in page
    assert ">Stop<" in page


def test_exactly_one_chunk_is_done_at_once(support):
    for _ in range(100):
        letter()
    assert decide(support).state == "done"


def test_stop_and_resume(support):
    for _ in range(3):
        letter()
    post(support, look(support)[1], rate="1")
    resolution = Resolution.objects.get()
    assert resolution.taken == 1
    steer = {name: reverse(f"admin:messaging_resolution_{name}", args=[resolution.pk]) for name in ("stop", "resume")}
    assert support.post(steer["stop"], {"reason": "wait"}).status_code == 302
    assert ">Resume<" in page_of(support, resolution)
    assert resolutions.work_off(resolution.pk) is None
    support.post(steer["resume"], {"reason": "go on"})
    while resolutions.work_off(resolution.pk):
        pass
    assert ">Resume<" not in page_of(support, resolution)
    resolution.refresh_from_db()
    assert (resolution.state, resolution.replayed) == ("done", 3)


def test_what_somebody_has_in_hand_is_left_to_them(support):
    for _ in range(3):
        letter()
    post(support, look(support)[1], rate="1")
    page, proposal = look(support)
    assert proposal is None
    assert "2 more match, but a running resolution has them in hand" in page


def test_a_second_click_on_the_same_preview_does_nothing(support):
    letter()
    _, proposal = look(support)
    post(support, proposal)
    again = support.post(PREVIEW, {"proposal": proposal, "reason": "again"}, follow=True)
    assert "none of these letters is open any more" in text(again)
    assert Resolution.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_people_who_decide_the_same_at_once_act_once(accept):
    for number in range(5):
        fail(accept(key=f"key-{number}"))
    people = [person(name, "view_deadletter", "resolve_deadletter") for name in ("ada", "bob")]
    proposals = [look(one)[1] for one in people]
    together = threading.Barrier(2)

    def click(number):
        try:
            together.wait(10)
            return post(people[number], proposals[number])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(click, range(2)))
    assert sum(Resolution.objects.values_list("replayed", flat=True)) == 5
    assert Resolution.objects.get().total == 5
    assert work().filter(options__has_key="replay_of").count() == 5


def test_the_actions_of_the_list_only_lead_to_the_preview(support):
    rows = [letter() for _ in range(3)]
    fields = {"action": "replay_selected", "_selected_action": [rows[0].pk, rows[1].pk], "index": "0"}
    answer = support.post(LIST, fields)
    assert answer["Location"] == f"{PREVIEW}?action=replay&ids={rows[0].pk}%2C{rows[1].pk}"
    whole = support.post(f"{LIST}?cause=ValueError", {**fields, "action": "discard_selected", "select_across": "1"})
    assert whole["Location"] == f"{PREVIEW}?action=discard&cause=ValueError"
    assert not Resolution.objects.exists()


def test_a_discard_of_what_others_wanted_charged_does_not_say_that_no_money_is_at_stake(support):
    foreign(b'{"amount": "250.00"}', cause="merchant_unknown")
    page, _ = look(support, "discard")
    assert "<td>none known</td>" in page


# --- who may


def test_who_may_only_look_sees_no_button_and_cannot_decide(support, viewer):
    row = letter()
    _, proposal = look(support)
    resolution = Resolution.objects.create(action="replay", reason="r", decided_by="b", selection={}, state="stopped")
    for page in (text(viewer.get(LIST)), page_of(viewer, row), page_of(viewer, resolution)):
        assert not re.search(r"(Replay|Discard)( all|…| selected)|Resume|_selected\"", page.split('id="content"')[1])
    assert viewer.get(PREVIEW).status_code == 403
    assert post(viewer, proposal).status_code == 403
    for name in ("stop", "resume"):
        assert viewer.post(reverse(f"admin:messaging_resolution_{name}", args=[resolution.pk])).status_code == 403
    action = {"action": "replay_selected", "_selected_action": [row.pk], "index": "0"}
    assert PREVIEW not in viewer.post(LIST, action).get("Location", "")
    row.refresh_from_db()
    assert row.state == "open"


@pytest.mark.parametrize("url", [LIST, reverse("admin:messaging_resolution_changelist"), PREVIEW])
def test_staff_without_the_permission_see_nothing(url):
    letter()
    assert person("nobody").get(url).status_code == 403


def test_a_forged_form_is_refused(support):
    letter()
    _, proposal = look(support)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = support.cookies
    assert post(strict, proposal).status_code == 403
    assert not Resolution.objects.exists()


@pytest.mark.parametrize("pk", ["0", "0199f000-0000-7000-8000-000000000001", "9" * 30])
def test_a_resolution_that_does_not_exist_is_no_error_of_ours(support, pk):
    assert support.get(reverse("admin:messaging_resolution_change", args=[pk])).status_code == 302


def test_home_says_how_many_wait(support):
    def open_letters():
        page = support.get(reverse("admin:index")).content.decode()
        return int(re.search(r"Open dead letters</span> <span[^>]*>(\d+)<", page)[1])

    assert open_letters() == 0
    letter()
    assert open_letters() == 1
    letter()
    assert open_letters() == 2
