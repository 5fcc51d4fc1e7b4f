"""The sandbox's list of charges and its refunds, in the journal and over HTTP."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.journal import REFUND, ChargeNotFound, Journal, KeyReused, RefundTooLarge

CHARGE = {"payment_id": "p-1", "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(path, clock):
    with closing(Journal(path, now=clock)) as journal:
        yield journal


def decide(journal, key="k-1", *, decline_code=None, **changes):
    return journal.decide(key=key, charge={**CHARGE, **changes}, decline_code=decline_code)[0]


def listed(journal, *, since=None, until=None, after=0, limit=100):
    found, more = journal.charges(since=since, until=until, after=after, limit=limit)
    return [entry.reference for entry, _ in found], more


def refund(journal, charge, key="r-1", **changes):
    return journal.refund(**{"key": key, "charge": charge, "amount": 1000, "currency": "EUR", **changes})


# --- the list


def test_charges_are_listed_by_the_time_they_were_made_with_declines_and_without_refunds(journal, clock):
    made = []
    for hour in range(4):
        clock.now = NOON + timedelta(hours=hour)
        made.append(decide(journal, f"k-{hour}", decline_code="card_declined" if hour == 1 else None).reference)
        if hour == 0:
            refund(journal, made[0])
    assert listed(journal) == (made, False)
    assert listed(journal, since=NOON + timedelta(hours=1)) == (made[1:], False)
    assert listed(journal, until=NOON + timedelta(hours=1)) == (made[:1], False)
    assert listed(journal, since=NOON + timedelta(hours=9)) == ([], False)


def test_pages_of_the_list_leave_out_no_charge_and_repeat_none(journal):
    made = [decide(journal, f"k-{number}").reference for number in range(7)]
    pages, after, more = [], 0, True
    while more:
        found, more = journal.charges(since=NOON, until=None, after=after, limit=3)
        pages.append([entry.reference for entry, _ in found])
        after = found[-1][0].seq
    assert pages == [made[:3], made[3:6], made[6:]]


def test_a_clock_that_steps_back_hides_no_charge(journal, clock):
    first = decide(journal)
    clock.now = NOON - timedelta(hours=1)
    second = decide(journal, "k-2")
    assert listed(journal, since=NOON) == ([first.reference, second.reference], False)


def test_a_journal_of_an_earlier_version_still_loads_and_its_charges_are_listed_first(path, clock):
    old = {
        "seq": 1, "operation": "charge", "idempotency_key": "k-1", **CHARGE,
        "outcome": "approved", "reference": "ch_00000001", "decline_code": None,
    }  # fmt: skip
    path.write_text(json.dumps(old) + "\n")
    with closing(Journal(path, now=clock)) as journal:
        new = decide(journal, "k-2")
        assert listed(journal) == (["ch_00000001", new.reference], False)
        assert listed(journal, since=NOON) == ([new.reference], False)


# --- refunds


def test_a_refund_under_one_key_is_made_once_and_survives_a_restart(path, clock):
    with closing(Journal(path, now=clock)) as journal:
        charged = decide(journal)
        first = refund(journal, charged.reference)
        assert refund(journal, charged.reference) == first
    with closing(Journal(path)) as journal:
        assert refund(journal, charged.reference) == first
        assert journal.find("r-1", operation=REFUND) == first
        assert journal.find("r-1") is None
        assert [effect["operation"] for effect in journal.effects()] == ["charge", "refund"]
        assert [refunded for _, refunded in journal.charges(since=None, until=None, after=0, limit=9)[0]] == [1000]


def test_concurrent_refunds_under_one_key_return_the_money_once(journal):
    charged = decide(journal)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: refund(journal, charged.reference), range(8)))) == 1
    assert len(journal.effects()) == 2


def test_refunds_are_never_more_than_the_charge_whatever_keys_are_forgotten(journal):
    charged = decide(journal)
    refund(journal, charged.reference, amount=600)
    for key, forget in (("r-2", False), ("r-1", True)):
        with pytest.raises(RefundTooLarge):
            journal.refund(key=key, charge=charged.reference, amount=600, currency="EUR", forget_keys=forget)
    refund(journal, charged.reference, "r-3", amount=400)
    assert len(journal.effects()) == 3


@pytest.mark.parametrize("change", [{"amount": 1}, {"currency": "USD"}, {"charge": "ch_9"}])
def test_a_key_is_never_used_for_another_refund(journal, change):
    charged = decide(journal)
    refund(journal, charged.reference)
    with pytest.raises(KeyReused):
        refund(journal, **{"charge": charged.reference, **change})


def test_what_was_never_charged_is_never_refunded(journal):
    declined = decide(journal, decline_code="card_declined")
    charged = decide(journal, "k-2")
    for charge, currency in ((declined.reference, "EUR"), ("ch_9", "EUR"), (charged.reference, "USD")):
        with pytest.raises(ChargeNotFound):
            refund(journal, charge, currency=currency)
    assert len(journal.effects()) == 1


# --- over HTTP


def call(sandbox, method, path, document=None, **headers):
    connection = http.client.HTTPConnection(*sandbox.server.server_address, timeout=10)
    with closing(connection):
        connection.request(method, path, None if document is None else json.dumps(document), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def charge(sandbox, key="k-1", method="pm_ok"):
    return call(sandbox, "POST", "/v1/charges", {**CHARGE, "payment_method": method}, **{"Idempotency-Key": key})[1]


def post_refund(sandbox, reference, key="r-1", **changes):
    document = {"charge": reference, "amount": 1000, "currency": "EUR", **changes}
    return call(sandbox, "POST", "/v1/refunds", document, **{"Idempotency-Key": key})


def test_the_list_is_read_in_pages_by_cursor(sandbox):
    for number in range(3):
        charge(sandbox, f"k-{number}", "pm_declined" if number == 1 else "pm_ok")
    _, first = call(sandbox, "GET", "/v1/charges?limit=2&created_since=2026-01-01T00:00:00Z")
    assert [one["status"] for one in first["data"]] == ["approved", "declined"]
    assert first["has_more"]
    _, last = call(sandbox, "GET", f"/v1/charges?limit=2&cursor={first['next_cursor']}")
    assert (len(last["data"]), last["has_more"], last["next_cursor"]) == (1, False, None)
    listed = last["data"][0]
    assert listed["idempotency_key"] == "k-2"
    assert {name: listed[name] for name in CHARGE} == CHARGE
    assert datetime.fromisoformat(listed["created_at"]).tzinfo is not None
    assert listed["amount_refunded"] == 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "cursor=-1", "cursor=x", "created_since=soon", "created_until="]
)
def test_a_list_is_never_read_with_a_parameter_that_was_ignored(sandbox, query):
    status, document = call(sandbox, "GET", f"/v1/charges?created_since=2026-01-01T00:00:00Z&{query}")
    if query == "created_until=":  # an empty parameter is none in a query
        assert status == 200
    else:
        assert (status, document["error"]["code"]) == (400, "parameter_invalid")


def test_a_refund_is_answered_and_found_alike(sandbox):
    reference = charge(sandbox)["id"]
    status, refunded = post_refund(sandbox, reference)
    assert (status, refunded["status"], refunded["charge"], refunded["amount"]) == (200, "succeeded", reference, 1000)
    assert call(sandbox, "GET", "/v1/refunds?idempotency_key=r-1") == (200, refunded)
    assert post_refund(sandbox, reference) == (200, refunded)
    assert call(sandbox, "GET", "/v1/refunds?idempotency_key=r-2")[0] == 404


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount": 1001}, 400, "amount_too_large"),
        ({"amount": 0}, 400, "field_invalid"),
        ({"amount": "1"}, 400, "field_invalid"),
        ({"reference": "ch_9"}, 404, "charge_not_found"),
        ({"currency": "USD"}, 404, "charge_not_found"),
    ],
)
def test_a_wrong_refund_returns_nothing(sandbox, change, status, code):
    asked = {"reference": charge(sandbox)["id"], **change}
    answer, document = post_refund(sandbox, **asked)
    assert (answer, document["error"]["code"]) == (status, code)
    assert len(sandbox.charges()) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("pm_down", 503, "unavailable"), ("pm_declined", 402, "refund_declined")]
)
def test_a_fault_of_refunds_leaves_charges_alone(sandbox, fault, status, code):
    sandbox.server.settings.change({"refund_fault": fault})
    reference = charge(sandbox)["id"]
    answer, document = post_refund(sandbox, reference)
    assert (answer, document["error"]["code"]) == (status, code)
    assert len(sandbox.charges()) == 1


def test_a_refund_whose_answer_is_lost_was_made(sandbox):
    sandbox.server.settings.change({"refund_fault": "pm_error_500"})
    reference = charge(sandbox)["id"]
    with pytest.raises(json.JSONDecodeError):
        post_refund(sandbox, reference)
    assert call(sandbox, "GET", "/v1/refunds?idempotency_key=r-1")[0] == 200
