"""What is taken along as CSV: exactly what is filtered, and never a formula."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from merchants.models import AuditEntry, User
from merchants.spreadsheets import AT_ONCE, cell, download, lines, newest_first
from payments.models import Payment

EXPORT = reverse("admin:payments_payment_export")


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\xa0=1", "\u200b=1", "\ufeff=1", "\u3000=1",
        "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x", "=cmd|' /C calc'!A0", "-2+3+cmd", "|calc", "\x00=1", "  \t @x",
    ],
)  # fmt: skip
def test_no_text_is_ever_a_formula(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=b", "order-1", "10.00", "ada@example.com", "'", "日本", " spaced"])
def test_ordinary_text_stays_as_it_is(text):
    assert cell(text) == text


@pytest.mark.parametrize("number", [-5, Decimal("-5.00"), 0, 1.5])
def test_numbers_stay_numbers_also_below_zero(number):
    assert cell(number) == number
    assert list(lines({"n": lambda row: row}, [number]))[1] == f"{number}\r\n"


def test_whatever_else_there_is_becomes_text():
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert [cell(value) for value in (None, True, noon, {"a": "=1"}, ["x"])] == [
        "", "True", "2026-01-02T12:00:00.000Z", '{"a": "=1"}', '["x"]',
    ]  # fmt: skip


def test_no_cell_begins_a_new_line_or_a_new_column():
    hostile = 'a"\r\n=1;=2,=3'
    body = "".join(lines({"x": lambda row: row, "y": lambda _row: 1}, [hostile]))
    assert body.startswith("\ufeff")
    assert list(csv.reader(io.StringIO(body[1:], newline=""))) == [["x", "y"], [hostile, "1"]]
    assert '"a""' in body


def test_a_long_table_is_read_a_few_rows_at_a_time(db, django_assert_num_queries):
    for number in range(3):
        AuditEntry.objects.create(actor=f"user:{number}", via="system", action="x")
    with django_assert_num_queries(1):
        assert [row.actor for row in newest_first(AuditEntry.objects.all())] == ["user:2", "user:1", "user:0"]
    AuditEntry.objects.bulk_create(AuditEntry(actor="many", via="system", action="x") for _ in range(AT_ONCE))
    with django_assert_num_queries(2):
        rows = list(newest_first(AuditEntry.objects.all()))
    assert len({row.pk for row in rows}) == len(rows) == AT_ONCE + 3


def test_a_download_is_never_built_in_memory():
    response = download("x", {"a": str}, [])
    assert response.streaming
    assert response["Content-Disposition"] == 'attachment; filename="x.csv"'


# --- payments


def person(name, *permissions):
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def read(response):
    assert response.status_code == 200, response.content
    body = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(body, newline="")))


def export(client, query="", reason="for the books"):
    return client.post(f"{EXPORT}?{query}", {"reason": reason})


@pytest.mark.django_db
def test_exactly_what_is_filtered_is_taken_along_and_that_is_recorded(accept):
    accept(key="a", order_id="=1+1"), accept(key="b", order_id="two", amount=2500)
    Payment.objects.filter(order_id="two").update(needs_review=True)
    clerk = person("carl", "view_payment")
    assert [row["order_id"] for row in read(export(clerk))] == ["two", "'=1+1"]
    (row,) = read(export(clerk, "needs_review__exact=1"))
    assert (row["amount"], row["currency"], row["order_id"]) == ("25.00", "EUR", "two")
    assert [row["order_id"] for row in read(export(clerk, "q=two"))] == ["two"]
    entry = AuditEntry.objects.order_by("-id")[1]
    assert (entry.actor, entry.action, entry.reason) == ("user:carl", "payments.exported", "for the books")
    assert entry.after == {"filter": {"needs_review__exact": "1"}, "rows": 1}


@pytest.mark.django_db
def test_a_download_is_kept_by_nobody_on_the_way_and_is_never_taken_for_a_page():
    response = export(person("carl", "view_payment"))
    assert read(response) == []
    assert "no-store" in response["Cache-Control"]
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
def test_nothing_is_taken_along_without_a_reason_a_permission_or_a_click(accept):
    accept()
    clerk = person("carl", "view_payment")
    for reason in ("", " ", "...", "x" * 501):
        assert export(clerk, reason=reason).status_code == 302
    assert clerk.get(EXPORT).status_code == 405
    assert export(person("nobody")).status_code == 403
    assert export(clerk, "status__nonsense=1").status_code in {302, 400}
    assert not AuditEntry.objects.exists()
