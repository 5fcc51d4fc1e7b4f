"""Those who operate it are told when telling stands still, and old rows and keys go without a loss."""

import socket
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from console.causes import DEFECT, words_for
from console.doctor import notifications as patient
from console.doctor.processes import signs_of_life
from merchants.models import Mode
from messaging import dead_letters
from messaging.heartbeats import Pulse
from messaging.models import DeadLetter
from notifications import endpoints, vault
from notifications.models import Delivery, DeliveryAttempt, WebhookEndpoint
from payments.ids import uuid7

pytestmark = pytest.mark.django_db

OLD = timedelta(days=91)


def deliver(merchant, state, *, ended=timedelta(), **fields):
    """A delivery that ended, or fell due, so long ago."""
    then = timezone.now() - ended
    waiting = {"next_attempt_at": then, "revive_at": then} if state == "pending" else {"finished_at": then}
    defaults = {"channel": "email", "recipient": "a@example.com", "event_type": "payment.succeeded", "mode": "test"}
    made = Delivery.objects.create(
        merchant=merchant, event_id=uuid7(), occurred_at=then, state=state, **waiting, **{**defaults, **fields}
    )
    Delivery.objects.filter(pk=made.pk).update(created_at=then)
    DeliveryAttempt.objects.create(delivery=made, number=1, outcome="failed", latency_ms=1)
    return made


@pytest.fixture
def endpoint(merchant):
    return endpoints.create(merchant=merchant, mode=Mode.TEST, url="https://hooks.example.com/")[0]


def run(name, *arguments):
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


# --- metrics, health and words


def gauges():
    text = Client().get("/metrics").content.decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_deliveries_that_stand_still_show_in_the_metrics(merchant, endpoint):
    assert gauges()["payments_deliveries_oldest_due_seconds"] == 0
    for _ in range(2):
        deliver(merchant, "pending", ended=timedelta(hours=1))
    deliver(merchant, "pending", channel="webhook", endpoint=endpoint, recipient=endpoint.url)
    deliver(merchant, "failed")
    values = gauges()
    assert values['payments_deliveries_pending{channel="email"}'] == 2
    assert values['payments_deliveries_pending{channel="webhook"}'] == 1
    assert values["payments_deliveries_oldest_due_seconds"] == pytest.approx(3600, abs=60)


def test_endpoints_out_of_order_show_in_the_metrics(merchant, endpoint):
    failing, deleted = (
        endpoints.create(merchant=merchant, mode=Mode.TEST, url=f"https://hooks.example.com/{name}")[0] for name in "ab"
    )
    health = "payments_webhook_endpoints"
    assert [gauges()[f'{health}{{health="{name}"}}'] for name in ("failing", "disabled")] == [0, 0]
    WebhookEndpoint.objects.filter(pk=failing.pk).update(failing_since=timezone.now())
    endpoints.change(endpoint=endpoint, enabled=False, now=timezone.now())
    endpoints.delete(endpoint=deleted, now=timezone.now())
    assert [gauges()[f'{health}{{health="{name}"}}'] for name in ("failing", "disabled")] == [1, 1]


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1/", ""], ids=["rabbitmq", "embedded"])
def test_silent_subscribers_are_told_with_their_mend(settings, url):
    settings.ENV = replace(settings.ENV, rabbitmq_url=url)
    part = Client().get("/health").json()["parts"]["subscribers"]
    assert part["status"] == "unhealthy"
    assert "manage.py relay" in part["detail"]
    found = {finding.what: finding for finding in signs_of_life()}["process subscribers"]
    assert (found.state, "manage.py relay" in found.mend) == ("FAILED", True)
    Pulse("subscribers").beat()
    assert Client().get("/health").json()["parts"]["subscribers"] == {"status": "healthy"}


@pytest.mark.parametrize("cause", ["delivery_exhausted", "delivery_refused"])
def test_a_dead_delivery_is_never_called_a_defect(cause):
    assert words_for(cause) != DEFECT


# --- the doctor


def production(settings, **environment):
    settings.ENV = replace(settings.ENV, production=True, **environment)


def test_in_production_mail_and_sms_that_reach_nobody_are_told(settings):
    production(settings, sms_backend="off")
    settings.EMAIL_ON, settings.SMS_BACKEND = False, None
    for (found,), variable in ((patient.mail(), "EMAIL_BACKEND"), (patient.sms(), "SMS_BACKEND")):
        assert (found.state, variable in found.mend) == ("warning", True)
    production(settings, sms_backend="file")
    settings.EMAIL_ON, settings.EMAIL_BACKEND = True, settings.EMAIL_BACKENDS["file"]
    settings.SMS_BACKEND = settings.SMS_BACKENDS["file"]
    for (found,) in (patient.mail(), patient.sms()):
        assert (found.state, "sent to nobody" in found.says) == ("warning", True)


def test_a_mail_server_that_is_away_is_told(settings):
    settings.EMAIL_ON, settings.EMAIL_BACKEND = True, settings.EMAIL_BACKENDS["smtp"]
    settings.EMAIL_HOST = "127.0.0.1"
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        settings.EMAIL_PORT = server.getsockname()[1]
        (found,) = patient.mail()
        assert found.state == "ok"
    (found,) = patient.mail()
    assert found.state == "warning"
    assert "EMAIL_HOST" in found.mend


def test_a_key_that_is_missing_is_told(settings, endpoint):
    assert next(patient.secrets()).state == "ok"
    settings.ENCRYPTION_KEYS = ["another-key-of-thirty-two-characters"]
    found = next(patient.secrets())
    assert (found.state, "ENCRYPTION_KEYS" in found.mend) == ("warning", True)


def test_a_network_that_reaches_no_endpoint_is_told(endpoint):
    assert next(patient.endpoints()).state == "ok"
    WebhookEndpoint.objects.update(failing_since=timezone.now())
    assert next(patient.endpoints()).state == "warning"


# --- what is forgotten


def test_finished_deliveries_go_after_their_time_and_no_others(merchant):
    for state in ("delivered", "failed", "canceled"):
        deliver(merchant, state, ended=OLD)
    kept = {deliver(merchant, "pending", ended=OLD).pk}
    kept |= {deliver(merchant, state, ended=timedelta(days=89)).pk for state in ("delivered", "failed", "canceled")}
    assert "Deliveries forgotten: 3." in run("prune", "--batch", "2")
    assert set(Delivery.objects.values_list("pk", flat=True)) == kept
    assert set(DeliveryAttempt.objects.values_list("delivery", flat=True)) == kept


def test_a_delivery_redelivered_of_late_is_kept(merchant):
    made = deliver(merchant, "delivered", ended=OLD)
    Delivery.objects.filter(pk=made.pk).update(finished_at=timezone.now())
    assert "Deliveries forgotten: 0." in run("prune")


def test_what_nobody_has_decided_on_is_never_forgotten(merchant):
    made = deliver(merchant, "failed", ended=OLD)
    dead_letters.record(
        queue="notifications",
        actor="send_messages",
        cause="delivery_exhausted",
        detail="",
        attempts=11,
        first_failed_at=timezone.now(),
        subject=f"delivery:{made.pk}",
    )
    assert "Deliveries forgotten: 0." in run("prune")
    DeadLetter.objects.update(state="discarded", resolved_at=timezone.now())
    assert "Deliveries forgotten: 1." in run("prune")


# --- another key


def test_the_old_key_may_go_after_all_secrets_were_encrypted_anew(settings, merchant, endpoint):
    endpoints.rotate(endpoint=endpoint, now=timezone.now())
    deleted = endpoints.create(merchant=merchant, mode=Mode.LIVE, url="https://hooks.example.com/")[0]
    endpoints.delete(endpoint=deleted, now=timezone.now())
    before = {row.pk: opened(row) for row in WebhookEndpoint.objects.all()}
    settings.ENCRYPTION_KEYS = ["a-new-key-of-thirty-two-characters!", *settings.ENCRYPTION_KEYS]
    assert "the secrets of 2 webhook endpoints" in run("reencrypt_secrets")
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    assert {row.pk: opened(row) for row in WebhookEndpoint.objects.all()} == before


def opened(endpoint):
    return [vault.unlock(token) for token in (endpoint.secret, endpoint.previous_secret) if token]


def test_secrets_that_no_key_opens_are_named_and_hold_up_no_others(settings, merchant, endpoint):
    settings.ENCRYPTION_KEYS = ["a-new-key-of-thirty-two-characters!"]
    other = endpoints.create(merchant=merchant, mode=Mode.LIVE, url="https://hooks.example.com/")[0]
    with pytest.raises(CommandError, match=str(endpoint.pk)):
        run("reencrypt_secrets")
    assert WebhookEndpoint.objects.get(pk=endpoint.pk).secret == endpoint.secret
    assert WebhookEndpoint.objects.get(pk=other.pk).secret != other.secret
