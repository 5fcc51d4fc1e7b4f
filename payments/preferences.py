"""`Prefer: wait=N` (RFC 7240): for how long a caller would rather wait than ask again."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

#: The longest wait (s): below the minute after which usual proxies and clients give up.
LONGEST_WAIT: Final = 30

BARE: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
SPACE: Final = r"[ \t]*+"  # possessive, as all repetitions here: a hostile header must not be read again and again
#: One member of the list: as far as a comma that is not quoted. A quote that never ends takes the rest.
MEMBER: Final = re.compile(rf'(?:[^",]|{QUOTED}?)++')
#: Its name and value. Parameters, after a semicolon, change nothing of what we know.
PREFERENCE: Final = re.compile(
    rf"{SPACE}(?P<name>{BARE}){SPACE}(?:={SPACE}(?P<value>{BARE}|{QUOTED})?{SPACE})?(?:;.*)?", re.DOTALL
)


def preferred_wait(header: str) -> int:
    """For how many seconds the caller would wait; 0 for not at all.

    What is malformed or unknown is ignored, and of a preference that is given twice the first counts (RFC 7240,
    section 2). Several headers reach us as one, joined by commas.
    """
    for name, value in preferences(header):
        if name == "wait":
            # As a decimal, because int() refuses more than 4300 digits.
            return min(int(Decimal(value)), LONGEST_WAIT) if re.fullmatch("[0-9]+", value) else 0
    return 0


def preferences(header: str) -> Iterator[tuple[str, str]]:
    """Name, in lower case, and value of each sound preference."""
    for member in MEMBER.findall(header):
        if found := PREFERENCE.fullmatch(member):
            yield found["name"].lower(), unquote(found["value"] or "")


def unquote(word: str) -> str:
    """A token as it is; a quoted string (RFC 9110, section 5.6.4) without its quotes and backslashes."""
    return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL) if word.startswith('"') else word
