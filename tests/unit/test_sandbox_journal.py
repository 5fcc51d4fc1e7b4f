"""The sandbox's journal is the witness of the crash tests: it may forget nothing and invent nothing."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sandbox.journal import Journal, KeyReused

CHARGE = {"payment_id": "p-1", "merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def decide(journal, key="k-1", decline_code=None, forget_keys=False, **changes):
    entry, _ = journal.decide(key=key, charge={**CHARGE, **changes}, decline_code=decline_code, forget_keys=forget_keys)
    return entry


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
    [{"amount": 1001}, {"currency": "USD"}, {"order_id": None}, {"merchant": "other"}],
)
def test_a_key_is_never_used_for_another_charge(path, change):
    with closing(Journal(path)) as journal:
        decide(journal)
        with pytest.raises(KeyReused):
            decide(journal, **change)
        assert len(journal.entries) == 1


def test_a_repeated_request_with_another_payment_id_gets_the_first_decision(path):
    """A caller whose database has lost the first payment repeats the request for a new one."""
    with closing(Journal(path)) as journal:
        first = decide(journal)
        assert decide(journal, payment_id="p-2") == first
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


def test_only_a_decision_of_this_moment_is_called_new(path):
    decision = {"key": "k-1", "charge": CHARGE, "decline_code": None}
    with closing(Journal(path)) as journal:
        first, is_new = journal.decide(**decision)
        assert is_new
        assert journal.decide(**decision) == (first, False)
        again, is_new = journal.decide(**decision, forget_keys=True)
        assert is_new
        assert again != first
    with closing(Journal(path)) as journal:
        assert journal.decide(**decision) == (first, False)


def test_a_charge_under_a_forgotten_key_is_never_hidden(path):
    with closing(Journal(path)) as journal:
        first = decide(journal)
        second = decide(journal, forget_keys=True)
        shown = journal.effects()
        assert [effect["seq"] for effect in shown] == [first.seq, second.seq] == [1, 2]
        assert {effect["idempotency_key"] for effect in shown} == {"k-1"}
        assert first.reference != second.reference


def test_a_look_up_finds_the_first_charge_whatever_was_forgotten_and_across_a_restart(path):
    with closing(Journal(path)) as journal:
        first = decide(journal, forget_keys=True)
        decide(journal, forget_keys=True, amount=2000)
        assert journal.find("k-1") == first
    with closing(Journal(path)) as journal:
        assert journal.find("k-1") == first
        assert decide(journal) == first
        assert len(journal.effects()) == 2


def test_a_gateway_that_forgets_keys_cannot_tell_that_one_is_reused(path):
    with closing(Journal(path)) as journal:
        decide(journal)
        assert decide(journal, forget_keys=True, amount=1001).amount == 1001


def test_concurrent_charges_under_a_forgotten_key_are_all_charged(path):
    with closing(Journal(path)) as journal, ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda _: decide(journal, forget_keys=True), range(8)))
        assert len({entry.reference for entry in entries}) == len(journal.effects()) == 8


def test_a_closed_journal_decides_nothing(path):
    journal = Journal(path)
    journal.close()
    with pytest.raises(OSError, match="closed"):
        decide(journal)
    assert journal.entries == []


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back_whole(path, monkeypatch):
    with closing(Journal(path)) as journal:
        first = decide(journal)
        write = os.write
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:10]))
        with pytest.raises(OSError, match="full"):
            decide(journal, "k-2")
        monkeypatch.undo()
        assert journal.find("k-2") is None
        second = decide(journal, "k-3")
    with closing(Journal(path)) as journal:
        assert journal.entries == [first, second]
