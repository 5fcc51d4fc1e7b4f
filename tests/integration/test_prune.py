"""`manage.py prune`: what has been kept long enough goes, in small batches, and nothing else."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from analytics.models import MetricsRun
from merchants.models import AuditEntry
from messaging.models import OutboxMessage

pytestmark = pytest.mark.django_db(transaction=True)


def prune(capsys, **options):
    capsys.readouterr()
    call_command("prune", **options)
    return capsys.readouterr().out


def staged(subscriber, *, days):
    return OutboxMessage.objects.create(
        exchange="payments.events",
        queue="payment.created",
        body=b"{}",
        subscriber=subscriber,
        message_id=uuid.uuid4(),
        created_at=timezone.now() - timedelta(days=days),
    )


def test_events_for_a_room_that_is_gone_are_forgotten_and_no_others(capsys):
    kept = {
        staged("notifications", days=400).pk,  # a room of ours that is behind
        staged("", days=400).pk,  # for RabbitMQ, which was away for long
        staged("a-room-that-was", days=29).pk,
    }
    staged("a-room-that-was", days=31)
    staged("another", days=31)
    assert "Outbox leftovers forgotten: 2." in prune(capsys, batch=1)
    assert set(OutboxMessage.objects.values_list("pk", flat=True)) == kept


def test_the_latest_run_of_the_metrics_is_never_forgotten(capsys):
    old = timezone.now() - timedelta(days=100)
    for _ in range(3):
        MetricsRun.objects.create(seen_up_to=old, started_at=old, finished_at=old)
    assert "Runs of metrics forgotten: 2." in prune(capsys)
    assert MetricsRun.objects.count() == 1


def test_sessions_of_the_console_that_are_over_are_forgotten(capsys):
    now = timezone.now()
    for name, ends in {"old": now - timedelta(seconds=1), "new": now + timedelta(hours=1)}.items():
        Session.objects.create(session_key=name, session_data="", expire_date=ends)
    assert "Sessions of the console forgotten: 1." in prune(capsys)
    assert Session.objects.get().session_key == "new"


def test_every_run_is_written_down_with_its_counts(capsys):
    out = prune(capsys)
    entry = AuditEntry.objects.get(action="records.pruned")
    assert len(entry.after) == len(out.splitlines()) == 9
    assert set(entry.after.values()) == {0}
