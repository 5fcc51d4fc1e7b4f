"""From an event to the mail and the SMS that tell of it, over a real mail server; and while there is none."""

import email
import json
import os
from datetime import timedelta
from email import policy
from uuid import UUID

import pytest
import time_machine
from aiosmtpd.controller import Controller
from django.db import connection
from django.utils import timezone
from dramatiq import Message

from deploy.local.machine import free_port
from merchants.models import Mode
from messaging import relay, subscribers
from messaging.models import DeadLetter
from messaging.publisher import Published
from notifications import messages, rescue
from notifications.models import Audience, Channel, Delivery, Preference
from payments.gateways.base import Approved
from payments.models import Payment
from tests.claiming import claim_one, settle_one
from tests.outbox import subscribed

pytestmark = pytest.mark.django_db(transaction=True)


class MailServer:
    """A real SMTP server on a port of its own, which a test may stop and start."""

    def __init__(self):
        self.port, self.mails, self.controller = free_port(), [], None

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802  # the library's name
        self.mails.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"

    def start(self):
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def stop(self):
        if self.controller:
            self.controller.stop()
            self.controller = None

    def to(self):
        return sorted(address for addresses, _ in self.mails for address in addresses)


@pytest.fixture
def mail_server(settings):
    made = MailServer()
    settings.EMAIL_ON = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", made.port
    settings.SMS_BACKEND = None
    made.start()
    yield made
    made.stop()


class Collected:
    """A publisher that hands out which deliveries are to be sent."""

    def __init__(self):
        self.ids = []

    def publish(self, envelopes):
        to_actors = [Message.decode(envelope.body) for envelope in envelopes if not envelope.exchange]
        self.ids += [
            id_ for message in to_actors if message.actor_name == "send_messages" for id_ in message.kwargs["ids"]
        ]
        return Published(confirmed={envelope.message_id for envelope in envelopes})


def run_everything():
    """What relay, its companions and workers do until nothing is left to do at this moment."""
    while subscribers.run_once("notifications"):
        pass
    collected = Collected()
    while relay.run_once(collected):
        pass
    for delivery_id in collected.ids:
        messages.deliver(UUID(delivery_id))


def pay(payment):
    settle_one(claim_one(payment.pk), Approved(reference="r"))
    return payment


def test_a_payer_gets_one_mail_in_the_language_of_the_merchant(accept, merchant, mail_server):
    merchant.language, merchant.contact_email = "de", "team@shop.example"
    merchant.save()
    payment = pay(accept(amount=123_450, order_id="A-1", receipt_email="kunde@example.org"))
    run_everything()
    run_everything()
    ((addresses, mail),) = mail_server.mails
    assert addresses == ["kunde@example.org"]
    assert "1.234,50" in mail.get_body(("plain",)).get_content()
    assert "A-1" in mail.get_body(("html",)).get_content()
    event = payment.events.get(type="payment.succeeded")
    assert str(event.pk) in mail["Message-ID"]
    assert mail["Reply-To"] == "team@shop.example"
    row = Delivery.objects.get()
    assert (row.state, row.attempts.get().outcome) == ("delivered", "delivered")


def test_an_hour_without_a_mail_server_loses_no_mail_doubles_none_and_touches_no_payment(accept, mail_server):
    """Every payment goes its way meanwhile, and everybody has their mail once when the hour is over."""
    count = 1000 if int(os.environ.get("CHAOS_ROUNDS", "3")) >= 10 else 50
    mail_server.stop()
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for number in range(count):
            pay(accept(f"key-{number}", order_id=f"order-{number}", receipt_email=f"payer{number}@example.org"))
        run_everything()
        assert Payment.objects.filter(status="succeeded").count() == count
        assert Delivery.objects.filter(state="pending", tries=1).count() == count
        before = list(Payment.objects.order_by("pk").values())
        for _ in range(12):
            clock.shift(timedelta(minutes=5))
            while rescue.run_once(now=timezone.now()):
                pass
            run_everything()
        assert Delivery.objects.filter(state="pending").count() == count
        mail_server.start()
        for _ in range(18):
            clock.shift(timedelta(minutes=5))
            while rescue.run_once(now=timezone.now()):
                pass
            run_everything()
    assert mail_server.to() == sorted(f"payer{number}@example.org" for number in range(count))
    assert len({mail["Message-ID"] for _, mail in mail_server.mails}) == count
    assert not Delivery.objects.exclude(state="delivered").exists()
    assert list(Payment.objects.order_by("pk").values()) == before
    assert not DeadLetter.objects.exists()
    assert not subscribed().exists()


def test_a_broken_template_ends_as_a_dead_letter_and_hurts_nobody_else(accept, merchant, mail_server):
    """A defect of ours: tried like any failure, and in the end kept for people."""
    event_types = ["payment.succeeded"]
    Preference.objects.create(
        merchant=merchant,
        channel=Channel.EMAIL,
        audience=Audience.MERCHANT,
        event_types=event_types,
        addresses=["b@x.org"],
    )
    pay(accept(receipt_email="a@example.org"))
    while subscribers.run_once("notifications"):
        pass
    Delivery.objects.filter(recipient="b@x.org").update(event_type="nonsense.type")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        run_everything()
        assert mail_server.to() == ["a@example.org"]
        for _ in range(48):
            clock.shift(timedelta(hours=1))
            rescue.run_once(now=timezone.now())
            run_everything()
    row = Delivery.objects.get(recipient="b@x.org")
    assert row.state == "failed"
    assert DeadLetter.objects.get().subject == f"delivery:{row.pk}"


def test_an_sms_tells_what_a_mail_tells(accept, settings, tmp_path):
    settings.EMAIL_ON = False
    settings.SMS_BACKEND = ("notifications.sms.file.FileSms", {"folder": str(tmp_path)})
    pay(accept(order_id="A-1", receipt_phone="+4915123456789"))
    run_everything()
    (file,) = tmp_path.iterdir()
    (said,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert said["to"] == "+4915123456789"
    assert "10.00" in said["text"]
    assert Delivery.objects.get().state == "delivered"


def test_mail_and_sms_are_sent_with_no_transaction_open(accept, mail_server, monkeypatch):
    """A mail server that dawdles must hold no lock."""
    open_ = []
    send = messages.send

    def watched(claim):
        open_.append(connection.in_atomic_block)
        return send(claim)

    monkeypatch.setattr(messages, "send", watched)
    pay(accept(receipt_email="a@example.org"))
    run_everything()
    assert open_ == [False]


def test_a_test_payments_mail_says_that_it_is_a_test(accept, mail_server):
    pay(accept(receipt_email="a@example.org"))
    run_everything()
    (row,) = Delivery.objects.all()
    assert row.mode == Mode.TEST
    assert mail_server.mails[0][1]["Subject"].strip().startswith("[TEST]")
