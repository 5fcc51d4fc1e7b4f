"""`manage.py export_metrics`: rows for other programs, none of them a formula, and the record that they were taken."""

import csv
import io
import json
import os
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from merchants.models import AuditEntry, Mode
from payments.states import Status
from tests.metrics import finish, pay

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MARCH = {"first": "2026-03-01", "last": "2026-03-31"}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def computed(merchant, other_merchant):
    with transaction.atomic():
        finish(pay(merchant, NOON, amount=1050), Status.SUCCEEDED)
        finish(pay(merchant, NOON, amount=70, currency="JPY", mode=Mode.LIVE), Status.SUCCEEDED)
        finish(pay(other_merchant, NOON), Status.FAILED, error_code="declined", decline_code="=cmd()")
    call_command("compute_daily_metrics", rebuild=True)


def export(capsys, **options):
    capsys.readouterr()
    call_command("export_metrics", **{**MARCH, **options})
    return capsys.readouterr().out


def test_a_row_for_each_merchant_mode_currency_and_gateway_and_no_sums(computed, capsys):
    rows = list(csv.DictReader(io.StringIO(export(capsys).removeprefix("\ufeff"))))
    found = [(row["merchant"], row["mode"], row["currency"], row["gateway"], row["volume"]) for row in rows]
    assert found == [
        ("other", "test", "EUR", "sandbox", "0.00"),
        ("shop", "live", "JPY", "sandbox", "70"),
        ("shop", "test", "EUR", "sandbox", "10.50"),
    ]


def test_what_a_gateway_says_is_never_a_formula(computed, capsys):
    text = export(capsys)
    assert "=cmd()" in text
    assert not any(cell.startswith(("=", "+", "@")) for row in csv.reader(io.StringIO(text)) for cell in row)


def test_json_has_an_object_in_each_line(computed, capsys):
    rows = [json.loads(line) for line in export(capsys, format="json", merchant="shop", mode="test").splitlines()]
    assert [(row["day"], row["accepted"], row["success_rate"]) for row in rows] == [("2026-03-10", 1, 1.0)]


def test_a_file_is_written_whole(computed, capsys, tmp_path):
    call_command("export_metrics", **MARCH, output=str(tmp_path / "metrics.csv"))
    assert len((tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_the_days_before_a_last_one_need_no_first_one(computed, capsys):
    out = export(capsys, first=None, last="2026-03-20")
    assert len(out.splitlines()) == 4


def test_a_reader_that_has_enough_is_no_failure(computed, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        call_command("export_metrics", **MARCH)


def test_whoever_takes_numbers_along_leaves_an_entry(computed, capsys):
    export(capsys, merchant="shop")
    entry = AuditEntry.objects.get(action="metrics.exported")
    assert entry.actor.startswith("shell:")
    assert entry.merchant.slug == "shop"
    assert entry.after["from"] == "2026-03-01"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"first": "2026-03-02", "last": "2026-03-01"}, "earlier day first"),
        ({"first": "soon"}, "is no day"),
        ({"last": "2999-01-01"}, "future"),
        ({"merchant": "nobody"}, "no merchant"),
        ({"output": "/proc/nowhere/metrics.csv"}, "cannot be written"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options, word):
    with pytest.raises(CommandError, match=word) as refusal:
        call_command("export_metrics", **{**MARCH, **options})
    assert refusal.value.returncode == 2
    assert "\n" not in str(refusal.value)
