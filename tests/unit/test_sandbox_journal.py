"""The sandbox's journal is the witness of the crash tests: it may forget nothing and invent nothing."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sandbox.journal import Journal, KeyReused

CHARGE = {"payment_id": "p-1", "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def decide(journal, key="k-1", decline_code=None, **changes):
    return journal.decide(key=key, charge={**CHARGE, **changes}, decline_code=decline_code)


def test_no_decision_is_forgotten_when_the_journal_is_opened_again(path):
    with closing(Journal(path)) as journal:
        approved = decide(journal)
        declined = decide(journal, "k-2", decline_code="card_declined", payment_id="p-2")
    with closing(Journal(path)) as journal:
        assert journal.find("k-1") == approved
        assert journal.find("k-2") == declined
        assert [effect["idempotency_key"] for effect in journal.effects()] == ["k-1"]


def test_a_decision_is_on_disk_before_anybody_is_told(path):
    with closing(Journal(path)) as journal:
        entry = decide(journal)
        assert json.loads(path.read_bytes())["reference"] == entry.reference


def test_a_key_never_charges_twice_even_across_a_restart(path):
    with closing(Journal(path)) as journal:
        first = decide(journal)
        assert decide(journal) == first
    with closing(Journal(path)) as journal:
        assert decide(journal) == first
        assert len(journal.effects()) == 1


def test_a_declined_key_stays_declined(path):
    with closing(Journal(path)) as journal:
        decide(journal, decline_code="card_declined")
        assert decide(journal).outcome == "declined"
        assert journal.effects() == []


@pytest.mark.parametrize(
    "torn",
    [b"{", b'{"seq": 2, "operation": "charge", "idempotency_key": "k-2"', b'{"seq": 2}'],
    ids=["{", "half", "whole"],
)
def test_a_line_cut_off_by_a_crash_neither_counts_nor_spoils_the_next(path, torn):
    with closing(Journal(path)) as journal:
        first = decide(journal)
    with path.open("ab") as file:
        file.write(torn)
    with closing(Journal(path)) as journal:
        assert journal.entries == [first]
        second = decide(journal, "k-2")
        assert second.seq == 2
    with closing(Journal(path)) as journal:
        assert journal.entries == [first, second]


@pytest.mark.parametrize("content", [b"", b"{", b"\n"])
def test_a_journal_without_a_whole_line_is_empty(path, content):
    path.write_bytes(content)
    with closing(Journal(path)) as journal:
        assert journal.entries == []
        decide(journal)
    with closing(Journal(path)) as journal:
        assert len(journal.entries) == 1


@pytest.mark.parametrize(
    "change",
    [{"amount": 1001}, {"currency": "USD"}, {"payment_id": "p-2"}, {"order_id": None}, {"merchant": "other"}],
)
def test_a_key_is_never_used_for_another_charge(path, change):
    with closing(Journal(path)) as journal:
        decide(journal)
        with pytest.raises(KeyReused):
            decide(journal, **change)
        assert len(journal.entries) == 1


def test_concurrent_charges_under_one_key_make_one_entry(path):
    together = threading.Barrier(16)
    with closing(Journal(path)) as journal, ThreadPoolExecutor(16) as pool:

        def one(_):
            together.wait(10)
            return decide(journal)

        entries = list(pool.map(one, range(16)))
        assert set(entries) == {journal.find("k-1")}
        assert len(journal.entries) == 1
    assert path.read_bytes().count(b"\n") == 1


def test_concurrent_charges_under_many_keys_get_numbers_of_their_own(path):
    with closing(Journal(path)) as journal, ThreadPoolExecutor(16) as pool:
        entries = list(pool.map(lambda number: decide(journal, f"k-{number}"), range(64)))
    assert sorted(entry.seq for entry in entries) == list(range(1, 65))
    assert len({entry.reference for entry in entries}) == 64
    with closing(Journal(path)) as journal:
        assert len(journal.entries) == 64


def test_the_effects_of_one_payment_show_no_other(path):
    with closing(Journal(path)) as journal:
        decide(journal, "k-1", payment_id="p-1")
        decide(journal, "k-2", payment_id="p-2")
        assert [effect["payment_id"] for effect in journal.effects("p-2")] == ["p-2"]
        assert journal.effects("p-3") == []
