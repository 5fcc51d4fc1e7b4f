"""What the payments of a day add up to: the same numbers, however often and in whatever order they are computed."""

import json
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from threading import Event, Thread
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from analytics import daily, numbers, stretches
from analytics.models import DailyMetric, MetricsRun
from merchants import audit
from merchants.models import Mode
from payments.models import Attempt, Payment
from payments.states import Status
from payments.transitions import flag_for_review, move, stay
from tests.metrics import finish, pay, replay, rows

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def compute(**options):
    call_command("compute_daily_metrics", **options)


@pytest.fixture
def whole(merchant):
    """The row of the merchant's day, all currencies and gateways."""

    def find(currency="", **chosen):
        chosen = {"day": NOON.date(), "merchant": merchant, "mode": "test", "gateway": "", **chosen}
        return DailyMetric.objects.get(currency=currency, **chosen)

    return find


# --- what a row says


@pytest.mark.django_db(transaction=True)
def test_no_payment_is_counted_twice_or_not_at_all(merchant, whole):
    with transaction.atomic():
        finish(pay(merchant, NOON, amount=1000), Status.SUCCEEDED, after=1)
        finish(pay(merchant, NOON, amount=500), Status.SUCCEEDED, after=3, attempts=2)
        finish(pay(merchant, NOON), Status.FAILED, after=2, error_code="declined", decline_code="expired_card")
        finish(pay(merchant, NOON), Status.FAILED, after=2, attempts=4, error_code="retries_exhausted")
        finish(pay(merchant, NOON), Status.CANCELED, after=2)
        pay(merchant, NOON)
    compute()
    row = whole(currency="EUR")
    assert (row.accepted, row.succeeded, row.failed, row.canceled) == (6, 2, 2, 1)
    assert (row.volume, row.refunded, row.refunds, row.attempts) == (1500, 0, 0, 8)
    assert (row.seconds_mean, row.seconds_p50) == (2.0, 2.0)
    assert row.reasons == {"expired_card": 1, "retries_exhausted": 1}
    assert rows(currency="EUR", gateway="", merchant=merchant)[0][5:] == rows(currency="EUR", merchant=None)[0][5:]


@pytest.mark.django_db(transaction=True)
def test_sums_of_different_currencies_are_never_added(merchant, whole):
    with transaction.atomic():
        finish(pay(merchant, NOON, amount=1000, currency="EUR"), Status.SUCCEEDED)
        finish(pay(merchant, NOON, amount=70, currency="JPY"), Status.SUCCEEDED)
    compute()
    assert (whole(currency="EUR").volume, whole(currency="JPY").volume) == (1000, 70)
    assert (whole().volume, whole().succeeded) == (None, 2)


@pytest.mark.django_db(transaction=True)
def test_test_money_is_never_added_to_real_money(merchant, whole):
    with transaction.atomic():
        pay(merchant, NOON, mode=Mode.TEST)
        pay(merchant, NOON, mode=Mode.LIVE)
    compute()
    assert (whole(mode="test").accepted, whole(mode="live").accepted) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_money_that_came_late_is_not_called_a_failure(merchant, whole):
    with transaction.atomic():
        payment = pay(merchant, NOON)
        finish(payment, Status.FAILED, error_code="retries_exhausted")
    compute()
    assert whole().failed == 1
    with transaction.atomic():
        flag_for_review(payment, now=payment.created_at, amount_captured=payment.amount, error_code="late_success")
    compute()
    assert (whole().failed, whole().succeeded, whole(currency="EUR").volume) == (0, 1, 1000)
    assert whole().reasons == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("UTC", "2026-03-10T23:59:59.999999", date(2026, 3, 10)),
        ("Europe/Berlin", "2026-03-10T23:00:00", date(2026, 3, 11)),
        ("Pacific/Kiritimati", "2026-03-10T10:00:00", date(2026, 3, 11)),
        ("Etc/GMT+12", "2026-03-10T11:59:59", date(2026, 3, 9)),
        # The nights in which Berlin's clocks are put forward, and back: 23 and 25 hours.
        ("Europe/Berlin", "2026-03-29T21:59:59", date(2026, 3, 29)),
        ("Europe/Berlin", "2026-03-29T22:00:00", date(2026, 3, 30)),
        ("Europe/Berlin", "2026-10-25T22:59:59", date(2026, 10, 25)),
        ("Europe/Berlin", "2026-10-25T23:00:00", date(2026, 10, 26)),
        # Clocks that are put forward at midnight, and back: a day that begins at one, and one that ends twice.
        ("Asia/Beirut", "2026-03-28T21:59:59", date(2026, 3, 28)),
        ("Asia/Beirut", "2026-03-28T22:00:00", date(2026, 3, 29)),
        ("Asia/Beirut", "2026-10-24T21:59:59", date(2026, 10, 24)),
        ("Asia/Beirut", "2026-10-24T22:00:00", date(2026, 10, 25)),
        # And a day that begins twice.
        ("America/Havana", "2026-11-01T03:59:59", date(2026, 10, 31)),
        ("America/Havana", "2026-11-01T04:00:00", date(2026, 11, 1)),
        ("America/Havana", "2026-11-01T05:00:00", date(2026, 11, 1)),
    ],
)
@pytest.mark.parametrize("beside", [None, "America/New_York"])
def test_a_payment_never_counts_on_another_day_than_the_merchants_own(merchant, other_merchant, zone, at, day, beside):
    """Where all merchants share a zone, and where not."""
    for each, its in ((merchant, zone), (other_merchant, beside or zone)):
        each.time_zone = its
        each.save()
    with transaction.atomic():
        pay(merchant, datetime.fromisoformat(at).replace(tzinfo=UTC))
        pay(other_merchant, NOON)
    compute(rebuild=True)
    assert set(DailyMetric.objects.filter(merchant=merchant).values_list("day", flat=True)) == {day}
    compute(date=day.isoformat())
    assert DailyMetric.objects.get(merchant=merchant, currency="EUR", gateway="").accepted == 1


@pytest.mark.django_db(transaction=True)
def test_a_merchant_that_moves_leaves_no_rows_behind(merchant):
    with transaction.atomic():
        pay(merchant, NOON + timedelta(hours=11, minutes=30))
    compute()
    merchant.time_zone = "Asia/Tokyo"
    merchant.save()
    compute(rebuild=True)
    assert set(DailyMetric.objects.values_list("day", flat=True)) == {date(2026, 3, 11)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_merchant_with_an_abbreviation_from_before_has_summer_time(merchant, other_merchant, is_alone):
    type(merchant).objects.filter(pk=merchant.pk).update(time_zone="CET")
    with transaction.atomic():
        for minute in (29, 31):
            pay(merchant, datetime(2026, 7, 10, 21, 30, tzinfo=UTC) + timedelta(minutes=minute))
        if not is_alone:
            pay(other_merchant, datetime(2026, 7, 10, 12, tzinfo=UTC))
    compute(rebuild=True)
    rows = DailyMetric.objects.filter(merchant=merchant, currency="EUR", gateway="")
    assert dict(rows.values_list("day", "accepted")) == {date(2026, 7, 10): 1, date(2026, 7, 11): 1}
    assert stretches.touched_since(datetime(2026, 7, 1, tzinfo=UTC)) == [date(2026, 7, 10), date(2026, 7, 11)]


# --- incremental is rebuild


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(4))
def test_runs_in_between_never_end_in_other_numbers_than_a_rebuild(merchant, other_merchant, seed):
    rng = random.Random(seed)
    other_merchant.time_zone = "America/New_York"
    other_merchant.save()
    open_, failed = [], []
    for step in range(60):
        match rng.choice(["pay", "pay", "finish", "finish", "replay", "run", "range"]):
            case "pay":
                with transaction.atomic():
                    at = NOON - timedelta(hours=rng.randrange(24 * 40))
                    currency = rng.choice(["EUR", "USD", "JPY"])
                    payment = pay(rng.choice([merchant, other_merchant]), at, amount=step + 1, currency=currency)
                    open_.append(payment)
            case "finish" if open_:
                payment = open_.pop(rng.randrange(len(open_)))
                status = rng.choice([Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED])
                why = {"error_code": rng.choice(["declined", "expired"])} if status == Status.FAILED else {}
                with transaction.atomic():
                    finish(payment, status, after=rng.uniform(0.1, 900), **why)
                if status == Status.FAILED:
                    failed.append(payment)
            case "replay" if failed:
                with transaction.atomic():
                    payment = failed.pop()
                    replay(payment)
                open_.append(payment)
            case "run":
                compute()
            case "range":
                compute(first="2026-02-20", last="2026-03-05")
    compute()
    incremental = rows()
    DailyMetric.objects.all().delete()
    compute(rebuild=True)
    assert incremental == rows()
    assert incremental


@pytest.mark.django_db(transaction=True)
def test_several_jobs_never_come_to_other_numbers_than_one(merchant):
    with transaction.atomic():
        for days in range(0, 140, 5):
            finish(pay(merchant, NOON - timedelta(days=days), amount=days + 1), Status.SUCCEEDED)
    compute(rebuild=True, jobs=1)
    alone = rows()
    DailyMetric.objects.all().delete()
    compute(rebuild=True, jobs=3)
    assert rows() == alone
    assert MetricsRun.objects.latest("id").rows == len(alone)


@pytest.mark.django_db(transaction=True)
def test_a_run_of_which_one_job_failed_is_never_taken_for_a_whole_one(merchant, monkeypatch):
    with transaction.atomic():
        for days in range(0, 140, 20):
            pay(merchant, NOON - timedelta(days=days))
    whole, broken = daily.compute, stretches.all_days()[2]
    monkeypatch.setattr(daily, "compute", lambda stretch: whole(stretch) if stretch != broken else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compute(rebuild=True, jobs=2)
    assert not MetricsRun.objects.exists()
    monkeypatch.undo()
    compute()
    assert DailyMetric.objects.filter(day__range=(broken.first, broken.last)).exists()


@pytest.mark.django_db(transaction=True)
def test_a_second_run_changes_nothing(merchant, capsys):
    with transaction.atomic():
        finish(pay(merchant, NOON), Status.SUCCEEDED, after=0.1)
    compute()
    before = list(DailyMetric.objects.order_by("id").values())
    compute(rebuild=True)
    assert list(DailyMetric.objects.order_by("id").values()) == before
    assert "0 rows changed" in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
def test_only_the_days_touched_since_the_last_run_are_computed(merchant, capsys):
    with transaction.atomic():
        old = pay(merchant, NOON - timedelta(days=30))
        pay(merchant, NOON)
    compute()
    with time_machine.travel(timedelta(hours=1) + datetime.now(UTC)):
        compute()
        with transaction.atomic():
            finish(old, Status.SUCCEEDED)
        capsys.readouterr()
        compute()
    said = capsys.readouterr().out
    assert "1 day computed, 2026-02-08 to 2026-02-08" in said


@pytest.mark.django_db(transaction=True)
def test_a_payment_whose_commit_comes_after_a_run_is_not_overlooked(merchant):
    began, go = Event(), Event()

    def slowly():
        try:
            with transaction.atomic():
                pay(merchant, NOON)
                began.set()
                assert go.wait(30)
        finally:
            connection.close()

    thread = Thread(target=slowly)
    thread.start()
    assert began.wait(30)
    compute()
    assert not DailyMetric.objects.exists()
    go.set()
    thread.join()
    compute()
    assert DailyMetric.objects.filter(merchant=merchant, currency="", gateway="").get().accepted == 1


@pytest.mark.django_db(transaction=True)
def test_a_charge_that_is_sent_again_is_never_overlooked(merchant, whole):
    with transaction.atomic():
        payment = pay(merchant, NOON)
        move(payment, Status.PROCESSING, now=NOON, charge_attempts=1)
    compute()
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        compute()
        with transaction.atomic():  # as a retry does it: no event tells of it
            stay(payment, charge_attempts=2)
            Attempt.objects.create(
                payment=payment, kind="charge", gateway_key="key", fence=1, started_at=timezone.now()
            )
        compute()
    assert whole().attempts == 2


@pytest.mark.django_db(transaction=True)
def test_a_merchant_that_moves_by_the_console_is_computed_anew_by_the_next_run(merchant):
    with transaction.atomic():
        pay(merchant, NOON + timedelta(hours=11, minutes=30))
    compute()
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5)):
        compute()
        with transaction.atomic():
            merchant.time_zone = "Asia/Tokyo"
            merchant.save()
            before, after = {"time_zone": "UTC"}, {"time_zone": "Asia/Tokyo"}
            audit.record(
                audit.SYSTEM, "merchant.changed", subject=f"merchant:{merchant.pk}", before=before, after=after
            )
        compute()
    assert set(DailyMetric.objects.values_list("day", flat=True)) == {date(2026, 3, 11)}
    assert MetricsRun.objects.latest("id").first_day == date(2026, 3, 9)


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_writes_nothing(merchant, capsys):
    with transaction.atomic():
        pay(merchant, NOON)
    compute(dry_run=True)
    assert "8 rows would change" in capsys.readouterr().out
    assert not DailyMetric.objects.exists()
    assert not MetricsRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_runs_never_work_at_the_same_time(merchant, capsys):
    with transaction.atomic():
        pay(merchant, NOON)
    holds, go = Event(), Event()

    def elsewhere():
        try:
            with daily.alone():
                holds.set()
                assert go.wait(30)
        finally:
            connection.close()

    thread = Thread(target=elsewhere)
    thread.start()
    assert holds.wait(30)
    compute()  # exits with 0
    assert "Another run is under way; nothing was done. It does the same." in capsys.readouterr().out
    compute(rebuild=True)
    assert "Run this again" in capsys.readouterr().out
    assert not DailyMetric.objects.exists()
    go.set()
    thread.join()
    compute()
    assert DailyMetric.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_named_days_alone_never_count_as_having_seen_everything(merchant):
    with transaction.atomic():
        pay(merchant, NOON)
        pay(merchant, NOON - timedelta(days=5))
    compute(date="2026-03-10")
    compute()
    assert set(DailyMetric.objects.values_list("day", flat=True)) == {date(2026, 3, 10), date(2026, 3, 5)}


# --- an independent computation


def members(frame, row):
    """The payments that a row is about."""
    group = frame[frame.day == row.day]
    for column in ("merchant_id", "currency", "gateway"):
        if wanted := getattr(row, column):
            group = group[group[column] == wanted]
    return group


def times(seconds):
    """Of whole milliseconds: the mean, and percentiles by their nearest rank."""
    ended = seconds.dropna()
    if ended.empty:
        return [None] * 4
    milliseconds = (ended * 1e6).round() // 1000
    percentiles = np.quantile(milliseconds, (0.5, 0.95, 0.99), method="inverted_cdf") / 1000
    return pytest.approx([milliseconds.mean() / 1000, *percentiles], abs=1e-6)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zones", [("Asia/Kolkata", "Asia/Kolkata"), ("Asia/Kolkata", "America/New_York")])
def test_pandas_comes_to_the_same_numbers(merchant, other_merchant, zones):
    """In each group: one merchant or all, one currency or all, one gateway or all."""
    rng = random.Random(7)
    merchants = [merchant, other_merchant]
    for each, zone in zip(merchants, zones, strict=True):
        each.time_zone = zone
        each.save()
    with transaction.atomic():
        for number in range(300):
            at = NOON + timedelta(seconds=rng.randrange(3 * 86_400))
            of = {"currency": rng.choice(["EUR", "JPY"]), "gateway": rng.choice(["sandbox", "other"])}
            payment = pay(rng.choice(merchants), at, amount=number + 1, **of)
            if number % 10 == 0:
                continue
            status = Status.FAILED if rng.random() < 0.2 else Status.SUCCEEDED
            why = {"error_code": "declined", "decline_code": rng.choice("ab")} if status == Status.FAILED else {}
            finish(payment, status, after=rng.uniform(0.05, 30), attempts=rng.randrange(1, 4), **why)
            if status == Status.SUCCEEDED and number % 7 == 0:
                Payment.objects.filter(pk=payment.pk).update(amount_refunded=rng.randrange(1, number + 2))
        # A day on which nothing has ended, in groups of several cells; and one with one cell, and a cell beside it.
        for currency in ("EUR", "JPY"):
            pay(merchant, NOON - timedelta(days=4), currency=currency)
        finish(pay(merchant, NOON - timedelta(days=6)), Status.SUCCEEDED, after=5)
        pay(merchant, NOON - timedelta(days=6), currency="JPY")
        # A day on which everything is of one merchant, currency and gateway.
        finish(pay(merchant, NOON - timedelta(days=2)), Status.SUCCEEDED, after=3)
        finish(pay(merchant, NOON - timedelta(days=2)), Status.SUCCEEDED, after=4)
    compute()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM payments_payment")
        names = [column.name for column in cursor.description]
        frame = pd.DataFrame(cursor.fetchall(), columns=names)
    zone_of = {each.pk: ZoneInfo(each.time_zone) for each in merchants}
    frame["day"] = [
        at.astimezone(zone_of[of]).date() for at, of in zip(frame.created_at, frame.merchant_id, strict=True)
    ]
    frame["seconds"] = (frame.finished_at - frame.created_at).dt.total_seconds()
    computed = list(DailyMetric.objects.all())
    for row in computed:
        group = members(frame, row)
        counts = Counter(group.status)
        assert (row.accepted, row.succeeded, row.failed) == (len(group), counts["succeeded"], counts["failed"])
        assert row.attempts == group.charge_attempts.sum()
        assert row.volume == (group.amount_captured.sum() if row.currency else None)
        assert row.refunded == (group.amount_refunded.sum() if row.currency else None)
        assert row.refunds == (group.amount_refunded > 0).sum()
        seconds = [row.seconds_mean, row.seconds_p50, row.seconds_p95, row.seconds_p99]
        assert seconds == times(group.seconds)
        failures = group[group.status == "failed"]
        assert row.reasons == json.loads(failures.decline_code.value_counts().to_json())
    assert len(computed) == 4 * 27 + 8 + 2 * 12, "days with two of everything, with one, and with two currencies"


# --- what is refused


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"date": "yesterday"}, "write it as 2026-03-31"),
        ({"date": "2026-02-30"}, "is no day"),
        ({"date": ""}, "is no day"),
        ({"date": "2999-01-01"}, "future"),
        ({"first": "2026-03-02", "last": "2026-03-01"}, "earlier day first"),
        ({"last": "2026-03-01"}, "--from"),
        ({"date": "0001-01-01"}, "nothing before 2000-01-01"),
        ({"first": "0001-01-01", "last": "0001-01-02"}, "nothing before 2000-01-01"),
        ({"date": "2026-03-01", "rebuild": True}, "one way only"),
        ({"date": "2026-03-01", "first": "2026-03-01"}, "one way only"),
    ],
)
def test_days_that_make_no_sense_are_refused_in_one_line(options, word):
    with pytest.raises(CommandError, match=word) as refusal:
        compute(**options)
    assert refusal.value.returncode == 2
    assert "\n" not in str(refusal.value)


@pytest.mark.django_db(transaction=True)
def test_a_time_zone_that_postgresql_does_not_know_is_named(merchant):
    with transaction.atomic():
        pay(merchant, NOON)
    type(merchant).objects.update(time_zone="Mars/Olympus")
    with pytest.raises(CommandError, match="Mars/Olympus") as refusal:
        compute()
    assert refusal.value.returncode == 2


@pytest.mark.django_db(transaction=True)
def test_a_time_zone_of_somebody_without_payments_never_keeps_others_from_their_numbers(merchant, other_merchant):
    with transaction.atomic():
        pay(merchant, NOON)
    type(merchant).objects.filter(pk=other_merchant.pk).update(time_zone="Mars/Olympus")
    compute()
    assert DailyMetric.objects.get(merchant=merchant, currency="EUR", gateway="").accepted == 1


# --- what it costs


def plan(zones, *settings):
    """How PostgreSQL would compute a day, knowing nothing of its payments; without how it finds its midnight."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join([numbers.SETTINGS.strip(" ;\n"), *settings]))
        values = {"first": NOON.date(), "last": NOON.date(), "zone": zones[0]}
        cursor.execute("EXPLAIN " + numbers.upsert(zones), values)
        lines = [line for (line,) in cursor.fetchall()]
        counting, rest = lines.index("  CTE alike"), lines.index("  CTE cell")
        return "\n".join(lines[counting:rest]), "\n".join(lines[rest:])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zones", [["UTC"], ["Asia/Tokyo", "UTC"]])
def test_a_days_run_reads_no_other_days(merchant, zones):
    # The table is empty: what reads all of it, or one merchant's payments of all days, would cost no more.
    counting, rest = plan(zones, "SET LOCAL enable_seqscan = off", "SET LOCAL enable_indexscan = off")
    assert "payment_age" in counting
    assert "payment_refunded" in rest, "what was given back is told by those few"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zones", [["UTC"], ["Asia/Tokyo", "UTC"]])
def test_a_days_run_never_compares_each_with_each(merchant, zones):
    """With 300 merchants and no statistics of today yet, a day took longer than anybody waited; now two seconds."""
    assert "Nested Loop" not in "".join(plan(zones))
