"""What a receiver's answer means, and what is said of a call that had none."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import httpcore2
from django.utils.http import parse_http_date_safe
from django.utils.translation import gettext_noop as _

from messaging.capped_http import ResponseTooLarge
from notifications.outcomes import Delivered, Failed, Result
from notifications.webhooks.excerpts import excerpt
from notifications.webhooks.pinned import HandshakeFailed

#: The longest wait that a receiver can ask for (seconds).
MAX_RETRY_AFTER: Final = 86_400.0
#: RFC 9110, section 15.5.11: gone for good.
GONE: Final = 410
#: The statuses whose `Retry-After` is heeded.
BUSY: Final = (429, 503)

#: OpenSSL's reasons not to trust a certificate, https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
CERTIFICATE_FAULTS: Final = {
    9: _("its certificate is not valid yet"),
    10: _("its certificate has expired"),
    18: _("its certificate is self-signed"),
    19: _("its certificate is of an authority that we do not know"),
    20: _("its certificate is of an authority that we do not know, or the certificates in between are not sent"),
    21: _("its certificate is of an authority that we do not know, or the certificates in between are not sent"),
    62: _("its certificate is for another host"),
    64: _("its certificate is for another host"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers by their lower-cased names, and the beginning of the body."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes


def result_of(answer: Answer, *, now: datetime) -> Result:
    """Only 2xx has been taken."""
    status = answer.status_code
    text = excerpt(answer.body, answer.headers.get("content-type", ""))
    if 200 <= status < 300:
        return Delivered(status_code=status, excerpt=text)
    gone = status == GONE
    wait = retry_after(answer.headers.get("retry-after", ""), now=now) if status in BUSY else None
    return Failed(
        detail=status_in_words(status), status_code=status, excerpt=text, final=gone, gone=gone, retry_after=wait
    )


def status_in_words(status: int) -> str:
    """What a status other than 2xx says."""
    if 300 <= status < 400:
        return _("it answered with a redirect, which is never followed: register the final address")
    if status == GONE:
        return _("it answered 410: it wants no more webhooks")
    return _("it answered %(number)s") % {"number": status}


def retry_after(value: str, *, now: datetime) -> float | None:
    """The seconds of a header `Retry-After` (RFC 9110, section 10.2.3), at most a day; None where it is nonsense."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,20}", value):
        return min(float(value), MAX_RETRY_AFTER)
    moment = parse_http_date_safe(value)
    if moment is None:
        return None
    return min(max(moment - now.timestamp(), 0.0), MAX_RETRY_AFTER)


def error_in_words(error: Exception) -> str:
    """What went wrong on the way there or back, without any address."""
    match error:
        case HandshakeFailed(reason=reason):
            return handshake_in_words(reason)
        case httpcore2.ConnectError() | httpcore2.ConnectTimeout():
            return _("it could not be reached")
        case ResponseTooLarge():
            return _("its answer does not end")
        case httpcore2.RemoteProtocolError() if not str(error).startswith("Server disconnected"):
            return _("its answer is not HTTP/1.1, its head is too long, or its body is cut short")
        case _:
            return _("it broke off before its whole answer")


def handshake_in_words(reason: ssl.SSLError | None) -> str:
    """Why there is no TLS connection."""
    if reason is None:
        return _("it broke off the TLS handshake")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return CERTIFICATE_FAULTS.get(reason.verify_code, _("its certificate is not valid"))
    return _("its port does not speak TLS 1.2 or newer")
