"""Mail on its way out: one message to one recipient by Django's mail framework, and what came of it."""

import hashlib
import smtplib
from contextlib import suppress
from dataclasses import replace
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Any, Final

from anymail.exceptions import AnymailError, AnymailInvalidAddress, AnymailRecipientsRefused
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.validators import validate_email
from django.utils.encoding import punycode

from notifications.legible import legible
from notifications.letters import NAME, write
from notifications.mail_http import cap
from notifications.notices import Notice
from notifications.outcomes import Delivered, Failed, Result

#: What a mail server or provider, or the way there, can do to us. Anything else is a bug, and escapes.
TROUBLE: Final = (smtplib.SMTPException, AnymailError, ImproperlyConfigured, OSError)


def send(notice: Notice, *, to: str) -> Result:
    """Tell one recipient. Not repeated here; the message has the same `Message-ID` at every attempt."""
    if not is_address(to):
        return Failed(detail="This is not a mail address.", final=True)
    reply_to = notice.reply_to if is_address(notice.reply_to) else ""
    message = compose(replace(notice, reply_to=reply_to), to=to)
    try:
        message.connection = cap(get_connection())
        message.send()
    except TROUBLE as error:
        return failure(error)
    finally:
        hang_up(message)
    return Delivered(reference=reference_of(message))


def compose(notice: Notice, *, to: str) -> EmailMultiAlternatives:
    """The message. Its `Date` is the moment of this attempt, as RFC 5322 has it, section 3.6.1: a mail from an hour
    ago would be taken for spam or sorted out of sight. When the event happened is said in the text.
    """
    letter = write(notice)
    message = EmailMultiAlternatives(
        subject=letter.subject,
        body=letter.text,
        from_email=sender_of(notice),
        to=[to],
        reply_to=[notice.reply_to] if notice.reply_to else None,
        headers={"Message-ID": message_id(notice, to), "Auto-Submitted": "auto-generated"},  # RFC 3834: no absence note
    )
    message.attach_alternative(letter.html, "text/html")
    return message


def hang_up(message: EmailMultiAlternatives) -> None:
    """Close what the attempt may have left open: Django closes only what it has opened and what went well."""
    with suppress(*TROUBLE):
        if message.connection:
            message.connection.close()


def sender_of(notice: Notice) -> str:
    """Our own address, which the mail server may send from, under the merchant's name."""
    return str(Address(display_name=legible(notice.merchant, NAME), addr_spec=own_address()))


def own_address() -> str:
    """The address in DEFAULT_FROM_EMAIL, which may have a name before it and letters beyond ASCII in its domain."""
    user, _, domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")
    return f"{user}@{punycode(domain)}"


def message_id(notice: Notice, to: str) -> str:
    """The same for an event and a recipient at every attempt, so that a mail program shows a repetition once."""
    recipient = hashlib.sha256(to.encode()).hexdigest()[:8]
    return f"<{notice.event_id}.{recipient}@{own_address().rpartition('@')[2]}>"


def reference_of(message: Any) -> str:
    """The provider's id, where django-anymail has put one on the message."""
    found = getattr(getattr(message, "anymail_status", None), "message_id", None)
    return found[:255] if isinstance(found, str) else ""


def failure(error: Exception) -> Failed:
    """What went wrong, retold: servers and providers quote the address, and some the credentials."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code = next(iter(error.recipients.values()))[0]
        return Failed(detail=f"The mail server refuses the recipient (SMTP {code}).", final=code >= 500)
    if isinstance(error, smtplib.SMTPDataError):
        code = error.smtp_code
        return Failed(detail=f"The mail server refuses the message (SMTP {code}).", final=code >= 500)
    if isinstance(error, (AnymailRecipientsRefused, AnymailInvalidAddress)):
        return Failed(detail="The mail provider refuses the recipient.", final=True)
    return Failed(detail=f"The mail did not go out: {kind_of(error)}.")


def kind_of(error: Exception) -> str:
    """The class of an error, and a status code where it has one."""
    for attribute, protocol in (("smtp_code", "SMTP"), ("status_code", "HTTP")):
        if isinstance(code := getattr(error, attribute, None), int):
            return f"{type(error).__name__} ({protocol} {code})"
    return type(error).__name__


def is_address(text: str) -> bool:
    """Whether it can be a mail address at all."""
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True
