"""pip-audit's report: a finding fails, and no data is no all-clear."""

import json

import pytest

from deploy.vulnerabilities import NoData, complaint_of

CLEAN = {"name": "django", "version": "5.2.19", "vulns": []}
SKIPPED = {"name": "whitenoise", "skip_reason": "Dependency not found on PyPI and could not be audited"}
BAD = {"name": "httpx2", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]}


def report(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


def test_packages_against_which_nothing_is_known_pass():
    assert complaint_of(report(CLEAN), "") == ""


def test_a_known_vulnerability_fails_and_names_its_mend():
    assert complaint_of(report(CLEAN, SKIPPED, BAD), "") == "httpx2 2.0: PYSEC-1, mended in 2.1"


@pytest.mark.parametrize("packages", [[SKIPPED], [CLEAN, SKIPPED]])
def test_packages_that_were_not_looked_up_never_count_as_clean(packages):
    with pytest.raises(NoData, match="1 of"):
        complaint_of(report(*packages), "")


@pytest.mark.parametrize("words", ["requests.exceptions.ConnectionError: …", "ServiceError: 503", "Read timed out."])
def test_an_index_that_is_away_is_said_to_be_away(words):
    with pytest.raises(NoData):
        complaint_of("", words)


def test_a_pip_audit_that_does_not_run_fails():
    assert complaint_of("", "error: unrecognized arguments: --nonsense") != ""
    assert complaint_of("", "") != ""
