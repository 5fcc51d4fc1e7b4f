"""The demo's past: as payments would stand in the database, and nothing that anybody acts on."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from django.core.management import CommandError, call_command

from analytics.models import DailyMetric
from console import demo_history
from messaging.models import OutboxMessage
from notifications.models import Delivery
from payments.models import Attempt, Payment, PaymentEvent
from payments.states import FINAL, Status

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.fixture
def past(transactional_db, merchant):
    assert sum(demo_history.write(merchant, days=30, payments=2_500, now=NOW)) == 2_500
    return merchant


@pytest.fixture
def demo(transactional_db, monkeypatch):
    for name, value in {"USER": "ada", "PASSWORD": "a-long-password-of-the-tests"}.items():
        monkeypatch.setenv(f"DEMO_ADMIN_{name}", value)
    monkeypatch.setenv("DEMO_API_KEY", "sk_test_the-demos-key-in-the-tests-0123456789")


def test_the_past_is_over_and_nothing_of_it_is_staged(past):
    assert not OutboxMessage.objects.exists()
    assert not Delivery.objects.exists()
    assert not Payment.objects.exclude(status__in=FINAL).exists()
    assert not Payment.objects.filter(finished_at__gt=NOW).exists()
    assert not Payment.objects.filter(created_at__lt=NOW - timedelta(days=30)).exists()


def test_a_payment_of_the_past_has_its_whole_story(past):
    for payment in Payment.objects.order_by("?")[:50]:
        versions = list(payment.events.order_by("version").values_list("version", flat=True))
        assert versions == list(range(1, payment.version + 1))
        assert payment.attempts.count() == payment.charge_attempts >= 1
        last = payment.events.order_by("-version").first()
        assert (last.type, last.created_at) == (f"payment.{payment.status}", payment.finished_at)
        assert last.snapshot["status"] == payment.status
    assert Attempt.objects.filter(finished_at=None).count() == 0


def test_the_past_has_something_of_everything(past):
    failed = Payment.objects.filter(status=Status.FAILED)
    assert 0.04 < failed.count() / 2_500 < 0.15
    assert set(failed.values_list("error_code", flat=True)) >= {"declined"}
    assert failed.values("decline_code").distinct().count() >= 4
    assert Payment.objects.filter(amount_refunded__gt=0).exists()
    assert Payment.objects.values("currency").distinct().count() == 4
    assert Payment.objects.filter(retries__gt=0).exists()


def test_ids_never_lie_in_another_order_than_the_times(past):
    times = list(Payment.objects.order_by("id").values_list("created_at", flat=True))
    assert all(first - later < timedelta(milliseconds=2) for first, later in pairwise(times))
    assert PaymentEvent.objects.filter(created_at__gt=NOW).count() == 0


def test_a_merchant_never_gets_a_second_past_nor_is_it_refused_in_silence(demo, capsys):
    call_command("seed_demo", days=7, payments=50)
    assert "has a past already" not in capsys.readouterr().out
    call_command("seed_demo", days=7, payments=90)
    assert "a past already, of 50 payments" in (told := capsys.readouterr().out)
    assert "DEMO_PAYMENTS=90 make run" in told, "and how to get another one"
    assert Payment.objects.filter(order_id__startswith="history-").count() == 50
    assert DailyMetric.objects.exists()


def test_a_past_that_was_interrupted_is_written_whole_by_the_next_command(demo, monkeypatch):
    write = demo_history.write

    def killed(*merchant, **options):
        yield from islice(write(*merchant, **options), 1)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr("console.management.commands.seed_demo.demo_history.write", killed)
        with pytest.raises(KeyboardInterrupt):
            call_command("seed_demo", days=7, payments=50)
    assert not Payment.objects.filter(order_id__startswith="history-").exists()
    call_command("seed_demo", days=7, payments=50)
    assert Payment.objects.filter(order_id__startswith="history-").count() == 50


def test_a_past_is_counted_whoever_computes_next(demo, monkeypatch):
    call_command("compute_daily_metrics")
    monkeypatch.setattr("console.management.commands.seed_demo.call_command", lambda name, **_: name == "migrate")
    call_command("seed_demo", "--without-payments", days=7, payments=50)
    assert not DailyMetric.objects.exists()
    call_command("compute_daily_metrics")
    rows = DailyMetric.objects.filter(merchant=None, currency="", gateway="")
    assert sum(rows.values_list("accepted", flat=True)) == 50


@pytest.mark.parametrize("missing", ["DEMO_ADMIN_USER", "DEMO_ADMIN_PASSWORD", "DEMO_API_KEY"])
def test_a_variable_that_is_missing_is_told_by_name(demo, monkeypatch, missing):
    monkeypatch.delenv(missing)
    with pytest.raises(CommandError, match=missing):
        call_command("seed_demo")


@pytest.mark.parametrize("options", [["--days", "0"], ["--days", "x"], ["--payments", "-1"], ["--payments", "1e3"]])
def test_a_past_that_makes_no_sense_is_refused(options):
    with pytest.raises(CommandError, match="whole number"):
        call_command("seed_demo", *options)
