"""What a mail says, to whom, and under which name; and that what went wrong is told without telling the address."""

import smtplib
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from types import SimpleNamespace

import pytest
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailInvalidAddress
from anymail.message import AnymailRecipientStatus
from django.core import mail as outbox
from django.core.mail.backends.base import BaseEmailBackend

from notifications import mail
from notifications.letters import write
from notifications.outcomes import Delivered, Failed
from notifications.webhooks import answers
from tests.notices import KINDS, PAYMENT_ID, notice

TO = "pat@payer.example"
#: What the backend below raises; a test sets it.
TROUBLE = []


class TroubledBackend(BaseEmailBackend):
    """A mail server that is outside of this test, at its worst."""

    def send_messages(self, messages):
        raise TROUBLE[-1]


@pytest.fixture
def fail_with(settings):
    settings.EMAIL_BACKEND = f"{__name__}.TroubledBackend"

    def do(error):
        TROUBLE.append(error)
        return mail.send(notice(), to=TO)

    return do


def sent(told, to=TO):
    """The message as a mail program reads it."""
    assert mail.send(told, to=to) == Delivered()
    raw = outbox.outbox[-1].message().as_bytes()
    return message_from_bytes(raw, policy=policy.default)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("mode", ["test", "live"])
def test_no_mail_says_what_is_nobodys_business(kind, language, mode):
    letter = write(notice(kind[1], audience=kind[0], language=language, mode=mode))
    for text in (letter.text, letter.html, letter.subject):
        assert "nobody" not in text.replace("nobody can say", "")
        assert "pm_secret_token" not in text
        assert "own words" not in text
        assert ("stolen_card" in text) is (
            kind in {("merchant", "payment.failed"), ("merchant", "payment.needs_review")} and text != letter.subject
        )
        assert "{{" not in text
        assert "%(" not in text
    assert letter.subject.startswith("[TEST] ") is (mode == "test")
    money = {"en": "no money has moved", "de": "kein Geld geflossen"}[language]
    assert (money in letter.text, money in letter.html) == (mode == "test", mode == "test")
    assert f'lang="{language}"' in letter.html


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_no_mail_loads_anything_or_runs_anything(kind):
    html = write(notice(kind[1], audience=kind[0])).html.lower()
    for danger in ("<script", "<img", "<link", "src=", "url(", "href=", "@import", "onload"):
        assert danger not in html


def test_both_bodies_say_the_same_facts():
    letter = write(notice())
    for fact in ("Shop has received your payment of €1,234.50", "order-123", PAYMENT_ID, "November 21, 2026"):
        assert fact in letter.text
        assert fact in letter.html
    assert "UTC" in letter.text


def test_a_time_is_never_told_without_its_zone_or_in_anothers_format():
    text = write(notice(language="de", occurred_at=datetime(2026, 1, 2, 23, 4, 5, tzinfo=UTC))).text
    assert "2. Januar 2026, 23:04:05 UTC" in text


def test_a_payer_is_never_told_how_a_card_failed():
    letter = write(notice("payment.failed"))
    assert "Your bank declined the payment. You have not been charged." in letter.text
    assert "declined /" not in letter.text


def test_a_bank_is_not_blamed_for_what_it_did_not_do():
    letter = write(notice("payment.failed", data={"last_error": {"code": "retries_exhausted", "decline_code": None}}))
    assert "bank" not in letter.text


def test_a_merchant_is_told_code_and_advice():
    text = write(notice("payment.failed", audience="merchant")).text
    assert "declined / stolen_card" in text
    assert "do not tell them the reason" in text


def test_a_merchant_is_told_which_endpoint_fails_since_when_and_why():
    text = write(notice("webhook_endpoint.failing", audience="merchant")).text
    for fact in ("https://shop.example/hooks", "November 20, 2026", "HTTP 500", "200 to 299"):
        assert fact in text


@pytest.mark.parametrize(
    ("reason", "german"),
    [
        (answers.status_in_words(500), "Die Adresse hat mit 500 geantwortet"),
        (answers.status_in_words(410), "Die Adresse hat mit 410 geantwortet: sie möchte keine Webhooks mehr"),
        (answers.CERTIFICATE_FAULTS[10], "Das Zertifikat ist abgelaufen"),
        ("120 hours without a success", "120 Stunden ohne einen Erfolg"),
        ("no whole answer within 15 s", "Keine vollständige Antwort innerhalb von 15 s"),
    ],
)
def test_a_german_merchant_is_not_told_the_reason_in_english(reason, german):
    told = notice("webhook_endpoint.failing", audience="merchant", language="de")
    told = replace(told, data={**told.data, "reason": reason})
    assert german in write(told).text


def test_the_secret_in_an_endpoints_url_is_in_no_mail():
    url = "https://shop.example/hooks?token=hush"
    for kind in ("webhook_endpoint.failing", "webhook_endpoint.disabled"):
        letter = write(notice(kind, audience="merchant", data={"url": url}))
        assert "https://shop.example/hooks?token=…" in letter.text
        assert "hush" not in letter.text + letter.html + letter.subject


HOSTILE = '<script>alert(1)</script>\r\nBcc: all@example.org\u2028"&\u202e\x00'


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_what_a_merchant_writes_is_neither_markup_nor_a_header(kind):
    data = (
        {"order_id": HOSTILE, "user_id": HOSTILE}
        if kind[1].startswith("payment.")
        else {"url": HOSTILE, "reason": HOSTILE}
    )
    told = notice(kind[1], audience=kind[0], merchant=HOSTILE, data=data)
    message = sent(told)
    assert set(message.keys()) == {
        "Content-Type", "MIME-Version", "Subject", "From", "To", "Reply-To", "Date", "Message-ID", "Auto-Submitted",
    }  # fmt: skip
    assert "<script" not in write(told).html
    assert "\u202e" not in write(told).text


def test_text_is_not_escaped_as_html_is():
    letter = write(notice(merchant="Müller & Söhne"))
    assert "Müller & Söhne" in letter.text
    assert "Müller & Söhne" in letter.subject
    assert "Müller &amp; Söhne" in letter.html


def test_long_names_and_ids_are_cut():
    letter = write(notice(merchant="M" * 200, data={"order_id": "o" * 255}))
    assert "M" * 61 not in letter.subject
    assert len(letter.subject) <= 180
    assert "o" * 121 not in letter.text


@pytest.mark.parametrize(
    "merchant",
    ["Shop", "Müller & Söhne", 'The "Shop", Inc.', "<evil@example.org>", "商店", "a@b, c", "x" * 200, "=?utf-8?q?x?="],
)
def test_the_sender_is_always_our_own_address_under_the_merchants_name(merchant, settings):
    settings.DEFAULT_FROM_EMAIL = "Payments <pay@example.com>"
    (sender,) = sent(notice(merchant=merchant))["From"].addresses
    assert sender.addr_spec == "pay@example.com"
    assert sender.display_name[:10] == merchant[:10] or merchant.startswith("=?")


def test_an_answer_goes_to_the_merchant():
    assert sent(notice())["Reply-To"] == "help@shop.example"
    assert "simply reply" in write(notice()).text


@pytest.mark.parametrize("reply_to", ["", "nonsense", "a@example.com\nBcc: b@example.org"])
def test_an_answer_goes_nowhere_where_the_merchant_has_no_address(reply_to):
    message = sent(notice(reply_to=reply_to))
    assert message["Reply-To"] is None
    assert "please contact Shop" in message.get_body(("plain",)).get_content()


def test_every_attempt_has_the_same_message_id_and_another_recipient_another(settings):
    settings.DEFAULT_FROM_EMAIL = "pay@example.com"
    first, second = sent(notice()), sent(notice())
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].startswith("<0199f3a2-5c1e-7c0a-9d57-2f6b8e4a1c33.")
    assert first["Message-ID"].endswith("@example.com>")
    assert sent(notice(), to="other@payer.example")["Message-ID"] != first["Message-ID"]
    assert "pat" not in first["Message-ID"]


def test_a_domain_with_umlauts_makes_no_header_that_nobody_can_read(settings):
    settings.DEFAULT_FROM_EMAIL = "pay@bücher.example"
    message = sent(notice())
    assert message["From"] == "Shop <pay@xn--bcher-kva.example>"
    assert message["Message-ID"].endswith("@xn--bcher-kva.example>")


def test_an_absence_note_is_not_asked_for():
    assert sent(notice())["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    "to", ["", "nonsense", "a@b@c", "a@example.com, b@example.com", "a@example.com\nBcc: b@example.org"]
)
def test_what_is_no_address_is_never_tried_again(to):
    result = mail.send(notice(), to=to)
    assert isinstance(result, Failed)
    assert result.final
    assert not to or to not in result.detail
    assert outbox.outbox == []


@pytest.fixture
def provider_says(settings, monkeypatch):
    """A provider of django-anymail's answers so; only the HTTP call is left out."""
    settings.EMAIL_BACKEND = "anymail.backends.test.EmailBackend"

    def do(message_id, status):
        answer = {"recipient_status": {TO: AnymailRecipientStatus(message_id=message_id, status=status)}}
        monkeypatch.setattr(f"{settings.EMAIL_BACKEND}.post_to_esp", lambda *_: answer)
        return mail.send(notice(), to=TO)

    return do


def test_the_providers_id_is_kept(provider_says):
    assert provider_says("provider-7", "queued") == Delivered(reference="provider-7")
    assert provider_says(None, "sent") == Delivered()


@pytest.mark.parametrize("status", ["rejected", "invalid"])
def test_a_recipient_that_the_provider_refuses_is_never_tried_again(provider_says, status):
    assert provider_says(None, status) == Failed(detail="The mail provider refuses the recipient.", final=True)


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (smtplib.SMTPRecipientsRefused({TO: (550, b"no pat@payer.example here")}), True),
        (smtplib.SMTPRecipientsRefused({TO: (451, b"pat@payer.example: try later")}), False),
        (smtplib.SMTPDataError(554, b"pat@payer.example hates this"), True),
        (smtplib.SMTPDataError(452, b"disk full"), False),
        (smtplib.SMTPSenderRefused(553, b"not yours", "pay@example.com"), False),
        (smtplib.SMTPAuthenticationError(535, b"hunter2 is wrong"), False),
        (smtplib.SMTPServerDisconnected("pat@payer.example"), False),
        (ConnectionRefusedError(111, "pat@payer.example"), False),
        (TimeoutError("hunter2"), False),
        (OSError(28, "No space left on device: pat@payer.example"), False),
        (AnymailInvalidAddress("pat@payer.example"), True),
        (
            AnymailAPIError(
                "hunter2", response=SimpleNamespace(reason="Bad", text="pat@payer.example"), status_code=503
            ),
            False,
        ),
        (AnymailConfigurationError("hunter2"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_wrong_is_told_without_address_and_secret(fail_with, error, final):
    result = fail_with(error)
    assert isinstance(result, Failed)
    assert result.final is final
    assert "payer.example" not in repr(result)
    assert "pat" not in result.detail
    assert "hunter2" not in repr(result)


def test_a_bug_is_not_taken_for_a_trouble_of_the_mail_server(fail_with):
    with pytest.raises(ZeroDivisionError):
        fail_with(ZeroDivisionError())
