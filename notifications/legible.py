"""Texts that merchants and payers wrote, made fit to stand inside a sentence of ours."""

import re
import unicodedata
from typing import Final

#: They turn the direction of what follows, up to the end of our own sentence.
BIDI_CONTROLS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def legible(text: object, limit: int) -> str:
    """One line of at most `limit` characters: no control characters, no half characters, no turned directions."""
    known = BIDI_CONTROLS.sub("", str(text or ""))
    shown = "".join(" " if is_unspeakable(character) else character for character in known)
    return shorten(" ".join(unicodedata.normalize("NFC", shown).split()), limit)


def is_unspeakable(character: str) -> bool:
    """Whether it is a control character, half of a surrogate pair, a line's end or nothing at all."""
    return unicodedata.category(character) in {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}


def shorten(text: str, limit: int) -> str:
    """Cut to `limit` characters, the last of them an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
