"""The check by mutants is checked itself: it sees a planted mutant die, and a planted survivor live."""

from pathlib import Path

import pytest

from tests.mutants import constants
from tests.mutants.coverage_map import CoverageMap
from tests.mutants.driver import jobs_for, try_all
from tests.mutants.operators import make_mutants
from tests.mutants.report import Results, Survivors, describe, table
from tests.mutants.sql import is_sql, mutations

CLAIMS = "payments/operations/claims.py"
TEST = "tests/unit/test_lease.py::test_a_lease_is_live_until_the_instant_at_which_it_expires[ends1-lookup-processing]"


def changed(source, *, function=None):
    return {mutant.after for mutant in make_mutants("example.py", source) if function in (None, mutant.function)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = a <= b", "x = a >= b"}),
        ("x = a is not None", {"x = a is None"}),
        ("x = a and b", {"x = a or b", "x = a", "x = b"}),
        ("x = not a", {"x = bool(a)"}),
        ("x = a + 1", {"x = a - 1", "x = a + 2", "x = a + 0"}),
        ("x = a if b else c", {"x = a if not (b) else c"}),
        ("x = f(a, b=c)", {"x = f(a)"}),
        ("f()", {"pass"}),
        ("x = {1: 'a', 2: 'b'}", {"x = {2: 'b'}", "x = {1: 'a'}", "x = {1: 'a_', 2: 'b'}", "x = {1: 'a', 2: 'b_'}"}),
        ("x = min(a)", {"x = max(a)"}),
        ("x = True", {"x = False"}),
        ("x: 'a' = b", set()),
        ("log.info('text', a=1)", set()),
        ("assert a == b", set()),
    ],
)
def test_each_operator_makes_its_mutants(source, expected):
    assert changed(source) == expected


def test_what_a_handler_catches_is_changed_one_by_one():
    source = "def f():\n    try:\n        g()\n    except (A, B):\n        return 1\n"
    assert {"except (B):", "except (A):", "pass", "return None", "return 2", "return 0"} == changed(
        source, function="f"
    )


def test_each_clause_of_a_statement_is_removed():
    text = '"SELECT id FROM t WHERE a = %s AND b < 3 ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED"'
    assert is_sql(text)
    made = {text[:start] + new + text[end:] for start, end, new, _ in mutations(text)}
    for part in (" FOR UPDATE SKIP LOCKED", " SKIP LOCKED", "ORDER BY id", "LIMIT 5", " AND b < 3", "a = %s AND "):
        assert any(part not in each and part in text for each in made), part
    assert text.replace("b < 3", "b <= 3") in made


def test_a_planted_mutant_is_killed_and_a_planted_survivor_is_reported(tmp_path, settings):
    mutants = make_mutants(CLAIMS, Path(CLAIMS).read_text())
    killed = find(mutants, "next_call", "payment.lease_expires_at < now")
    survivor = find(mutants, "charge_request", "return None")
    coverage = CoverageMap(tmp_path)
    coverage.seconds = {TEST: 1.0}
    coverage.tests_for = lambda _: [TEST]
    results = Results(tmp_path / "results.jsonl")
    with jobs_for(1, coverage) as jobs:
        try_all(jobs, [killed, survivor], ends=float("inf"), tell=results.add)
    assert results.known[killed.key]["status"] == "killed"
    assert results.known[killed.key]["test"] == TEST
    assert results.known[survivor.key]["status"] == "survived"
    explained = tmp_path / "survivors.toml"
    explained.write_text(describe(survivor, "survived"))
    assert not Survivors(explained).reason(survivor)  # an empty reason explains nothing
    explained.write_text(describe(survivor, "survived").replace('reason = ""', 'reason = "not executed"'))
    assert Survivors(explained).reason(survivor) == "not executed"
    assert Results(tmp_path / "results.jsonl").is_killed(killed)
    total = ["all", "2", "1", "0", "0", "0", "0", "1", "50.0", "100.0"]
    assert table([killed, survivor], results, Survivors(explained))[-1].split() == total


def find(mutants, function, after):
    return next(mutant for mutant in mutants if mutant.function == function and after in mutant.after)


def test_a_constant_that_other_statements_use_while_they_are_imported_is_not_changed_in_place(tmp_path):
    changed = tmp_path / "states.py"
    path = Path("payments/states.py").resolve()
    changed.write_text(path.read_text().replace('"pending"', '"pending_"'))
    with pytest.raises(constants.NotPossible):
        constants.replace_constant(str(path), changed.read_text())
