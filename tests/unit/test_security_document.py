"""What SECURITY.md calls a proof is one that can be run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: part)
def test_no_proof_is_claimed_that_does_not_exist(file, test):
    path = ROOT / file
    assert path.exists()
    tree = ast.parse(path.read_text())
    assert not test or test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_risk_of_the_list_has_a_proof():
    rows = re.findall(r"^\| (API\d+) .*\| (.*) \|$", TEXT, re.MULTILINE)
    assert [name for name, _ in rows] == [f"API{number}" for number in range(1, 11)]
    assert all("`tests/" in proof for _, proof in rows)


@pytest.mark.parametrize("path", re.findall(r"`((?:docs|deploy)/[\w/.-]+)`", TEXT))
def test_no_document_is_named_that_is_gone(path):
    assert (ROOT / path).exists()
