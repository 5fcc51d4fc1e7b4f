"""How much text fits one SMS: the alphabets of 3GPP TS 23.038, and cutting to measure.

A segment has 140 octets: 160 characters of the 7-bit default alphabet (section 6.2.1), or 70 units of UCS-2 as soon as
one character is not in it. What is longer is sent, and paid, as several.
"""

import unicodedata
from typing import Final

#: The default alphabet, in the order of its codes; code 0x1B, the escape to the extension, is no character.
BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
#: The extension (section 6.2.1.1): each takes an escape as well, so it counts two.
EXTENSION: Final = frozenset("\f^{}\\[~]|€")
#: Septets, and 16-bit units, of one segment.
SEPTETS: Final = 160
UCS2_UNITS: Final = 70
#: In the default alphabet, as the typographic one is not.
ELLIPSIS: Final = "..."
#: Typographic characters -> what a typewriter has for them.
PLAIN: Final = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-", "‐": "-"}
    | {"‑": "-", "−": "-", "…": "...", "×": "x", "•": "-", "·": "-", "`": "'", "´": "'", "\t": " "}
    | dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}", " ")
)


def is_gsm(text: str) -> bool:
    """Whether all of the text is in the default alphabet or its extension."""
    return all(character in BASIC or character in EXTENSION for character in text)


def length_of(text: str) -> int:
    """Septets, or where a character is in neither table, units of UCS-2 (a character beyond the BMP has two)."""
    if is_gsm(text):
        return sum(2 if character in EXTENSION else 1 for character in text)
    return units_of(text)


def units_of(text: str) -> int:
    """16-bit units."""
    return len(text.encode("utf-16-be", "surrogatepass")) // 2


def room_of(text: str) -> int:
    """What a segment holds that is written like this text."""
    return SEPTETS if is_gsm(text) else UCS2_UNITS


def fits(text: str) -> bool:
    """Whether it is one segment."""
    return length_of(text) <= room_of(text)


def written(text: str) -> str:
    """The text as it can be sent: in the default alphabet where that loses nothing but ornaments, else as it is."""
    plain = to_gsm(text)
    return plain if is_gsm(plain) else unicodedata.normalize("NFC", text)


def to_gsm(text: str) -> str:
    """The text in the default alphabet as far as it goes: plain quotes and dashes, letters without foreign accents.

    Emoji and symbols that nobody misses are dropped. Letters and digits of other scripts stay: they force UCS-2.
    """
    return tidy("".join(gsm_of(character) for character in unicodedata.normalize("NFC", text).translate(PLAIN)))


def gsm_of(character: str) -> str:
    """One character, its base letter, nothing, or where it carries meaning itself."""
    if is_gsm(character):
        return character
    base = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    if base and is_gsm(base):
        return base
    return character if unicodedata.category(character)[0] in "LN" else ""


def only_gsm(text: str) -> str:
    """The text without what is in neither table."""
    return tidy("".join(character for character in to_gsm(text) if is_gsm(character)))


def tidy(text: str) -> str:
    """Words with one space between them."""
    return " ".join(text.split())


def cut(text: str, room: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis; `room` in the measure of its own alphabet."""
    measure = length_of if is_gsm(text) else units_of
    if measure(text) <= room:
        return text
    kept = text
    while kept and measure(kept) > room - len(ELLIPSIS):
        kept = kept[:-1]
    # What joins two characters would join the ellipsis.
    return kept.rstrip(" \u200d\ufe0f") + ELLIPSIS if kept else ""
