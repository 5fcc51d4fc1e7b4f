"""The beginning of a receiver's answer, as people may see it and as it may be kept.

Secrets are taken out before the text is cut to its final length, so none is cut in two and slips through there. The
raw answer is cut before, for the search must not last; what that cut may have left of a secret stands at the very end
of the searched text, and that end is dropped.
"""

import re
import unicodedata
from typing import Final

from payments.cards import without_card_numbers

MAX_CHARACTERS: Final = 1_000
#: What is searched at most, in bytes: a hostile answer of this size costs some tens of milliseconds.
MAX_SEARCHED: Final = 2_048
#: No secret that is not yet known as one is longer: of credentials in a URL up to 203 characters are looked at, a mail
#: address without its end has up to 64 + 1 + 63 (RFC 5321), a card number 37, a run of base64 31.
DROPPED: Final = 256
REDACTED: Final = "[redacted]"
#: Media types whose content people can read.
TEXTUAL: Final = re.compile(r"\s*(text/|application/(.{1,50}\+)?(json|xml)|application/x-www-form)", re.IGNORECASE)
#: Controls, surrogates, private use, and what has no look but changes that of its neighbours: bidi and zero width.
UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

#: `Authorization: Basic …`, `"api_key": "…"`, `password=…`
NAMED: Final = re.compile(
    r"(?P<name>(?:authorization|password|passwd|secret|token|api[_-]?key)[\"']?\s{0,9}[:=]\s{0,9}[\"']?)"
    r"(?:(?:basic|bearer)\s+)?[^\s\"',;&<>\[]+",
    re.IGNORECASE,
)
BEARER: Final = re.compile(r"(?P<name>bearer\s+)[^\s\"',;<>\[]+", re.IGNORECASE)
CREDENTIALS: Final = re.compile(r"(?P<name>://)[^/\s@\[]{1,200}@")
PREFIXED: Final = re.compile(r"(?:whsec|[rsp]k_(?:test|live))_[\w+/=-]*")
JWT: Final = re.compile(r"eyJ[\w-]+\.[\w.-]*")
#: Long runs of hex, base64 or base64url; but ids, which people search by.
RUN: Final = re.compile(
    r"(?<![\w+/-])(?P<name>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![\w+/=-])|[A-Za-z0-9+/_-]{32,}=*"
)
MAIL: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?=[\w-]+\.\w)")


def excerpt(body: bytes, content_type: str) -> str:
    """At most 1,000 characters of an answer, without secrets, and such as PostgreSQL takes."""
    if content_type and not TEXTUAL.match(content_type):
        return f"[{len(body)} bytes that are no text]" if body else ""
    text = redact(seen(body[:MAX_SEARCHED].decode(errors="replace")))
    if len(body) > MAX_SEARCHED:
        text = text[:-DROPPED]
    # Once more, for the cut can make sixteen digits of twenty.
    return without_card_numbers(text[:MAX_CHARACTERS])


def seen(text: str) -> str:
    """The text with a mark in the place of each character that has no look of its own."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in UNSEEN else "�"
        for char in text.replace("\r\n", "\n")
    )


def redact(text: str) -> str:
    """The text without what may be a secret: better a word too many than a key too few."""
    for pattern in (NAMED, BEARER, CREDENTIALS, PREFIXED, JWT, RUN):
        text = pattern.sub(replacement, text)
    return without_card_numbers(MAIL.sub("***@", text))


def replacement(found: re.Match[str]) -> str:
    """What stands for a match: its group `name`, if it has one, is no secret."""
    groups = found.groupdict()
    name = groups.get("name") or ""
    return name if name == found[0] else name + REDACTED
