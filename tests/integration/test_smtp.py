"""Mail over a real SMTP conversation: each answer of a server ends as it should, and a repetition is recognisable."""

from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller

from deploy.local.machine import free_port
from notifications import mail
from notifications.outcomes import Delivered, Failed
from tests.notices import notice

TO = "pat@payer.example"


class Postmaster:
    """Takes mail, or answers as the test says."""

    def __init__(self):
        self.recipient_answer = "250 OK"
        self.data_answer = "250 OK"
        self.hangs_up = False
        self.received = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802  # aiosmtpd's name
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  # aiosmtpd's name
        if self.hangs_up:
            server.transport.close()
        self.received.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return self.data_answer


@pytest.fixture
def postmaster(settings):
    handler = Postmaster()
    controller = Controller(handler, hostname="127.0.0.1", port=free_port(), ready_timeout=10)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
    settings.DEFAULT_FROM_EMAIL = "pay@example.com"
    yield handler
    controller.stop()


def test_a_mail_arrives_whole(postmaster):
    assert mail.send(notice(language="de"), to=TO) == Delivered()
    ((recipients, message),) = postmaster.received
    assert recipients == [TO]
    assert message["Subject"].strip() == "Shop hat Ihre Zahlung von 1.234,50\xa0€ erhalten"
    assert message["From"] == "Shop <pay@example.com>"
    assert "Vielen Dank" in message.get_body(("plain",)).get_content()
    assert "Vielen Dank" in message.get_body(("html",)).get_content()


def test_the_same_mail_has_the_same_id_at_every_attempt(postmaster):
    postmaster.data_answer = "451 try again"
    assert not mail.send(notice(), to=TO).final
    postmaster.data_answer = "250 OK"
    assert mail.send(notice(), to=TO) == Delivered()
    first, second = (message["Message-ID"] for _, message in postmaster.received)
    assert first == second


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        ("550 No such user pat@payer.example", True),
        ("553 Bad address", True),
        ("450 Busy", False),
        ("451 Later", False),
    ],
)
def test_only_a_lasting_refusal_of_the_recipient_is_final(postmaster, answer, final):
    postmaster.recipient_answer = answer
    result = mail.send(notice(), to=TO)
    assert result == Failed(detail=f"The mail server refuses the recipient (SMTP {answer[:3]}).", final=final)
    assert postmaster.received == []


@pytest.mark.parametrize(("answer", "final"), [("554 Spam", True), ("452 Disk full", False)])
def test_only_a_lasting_refusal_of_the_message_is_final(postmaster, answer, final):
    postmaster.data_answer = answer
    assert mail.send(notice(), to=TO).final is final


def test_a_connection_that_breaks_is_tried_again(postmaster):
    postmaster.hangs_up = True
    result = mail.send(notice(), to=TO)
    assert isinstance(result, Failed)
    assert not result.final


def test_a_mail_server_that_is_down_is_tried_again(postmaster, settings):
    settings.EMAIL_PORT = free_port()
    assert mail.send(notice(), to=TO) == Failed(detail="The mail did not go out: ConnectionRefusedError.")


def test_a_server_without_tls_is_never_given_a_mail_in_clear_where_tls_is_asked_for(postmaster, settings):
    settings.EMAIL_USE_TLS = True
    result = mail.send(notice(), to=TO)
    assert isinstance(result, Failed)
    assert not result.final
    assert postmaster.received == []
