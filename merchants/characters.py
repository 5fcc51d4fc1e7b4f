"""Characters that a text must not contain, and the one form in which identifiers are compared.

Two identifiers that look the same must be the same: an order is charged at most once. Unicode writes one text in
several ways (UAX #15) and has characters without any appearance (UAX #44, Default_Ignorable_Code_Point). See ADR 0036.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: Characters without an appearance that `str.isprintable` counts as printable: marks, fillers and variation selectors.
INVISIBLE: Final = frozenset(
    chr(number)
    for numbers in (
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        range(0x180B, 0x1810),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
    for number in numbers
)
#: Categories that free text must not contain: control, format and surrogate characters, line and paragraph separators.
REFUSED_IN_TEXT: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Control characters that free text may contain.
ALLOWED_CONTROLS: Final = frozenset("\t\n\r")

#: Names of characters that have none in the Unicode database.
CONTROL_NAMES: Final = {"\0": "NULL", "\t": "TAB", "\n": "LINE FEED", "\r": "CARRIAGE RETURN", "\x7f": "DELETE"}
CATEGORY_NAMES: Final = {"Cc": "CONTROL CHARACTER", "Cn": "UNASSIGNED", "Co": "PRIVATE USE", "Cs": "SURROGATE"}


@dataclass(frozen=True, slots=True)
class TextFault:
    """The first character of a text that is refused: a code for programs and a message."""

    code: str
    message: str


def normalize_identifier(text: str) -> str:
    """Return the form in which an identifier is stored and compared: NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def find_identifier_fault(text: str) -> TextFault | None:
    """Return what an identifier or a name must not contain; None if there is nothing.

    Refused are all characters without a distinct appearance, every space but U+0020, and U+0020 at either end.
    """
    if not text.isprintable() or not (text.isascii() or INVISIBLE.isdisjoint(text)):
        return _first_fault(text, (not character.isprintable() or character in INVISIBLE for character in text))
    if text != text.strip(" "):
        position = 1 if text.startswith(" ") else len(text)
        message = f"Character {position} is a space: remove spaces at the beginning and at the end."
        return TextFault("surrounding_space", message)
    return None


def find_text_fault(text: str) -> TextFault | None:
    """Return what a free text must not contain; None if there is nothing. Tabs and line breaks are allowed."""
    if text.isprintable():
        return None
    return _first_fault(
        text,
        (
            unicodedata.category(character) in REFUSED_IN_TEXT and character not in ALLOWED_CONTROLS
            for character in text
        ),
    )


def describe_character(character: str) -> str:
    """Return a character's code point and name, such as `U+200B ZERO WIDTH SPACE`."""
    category = unicodedata.category(character)
    name = unicodedata.name(character, "") or CONTROL_NAMES.get(character) or CATEGORY_NAMES.get(category, category)
    return f"U+{ord(character):04X} {name}"


def _first_fault(text: str, is_refused: Iterable[bool]) -> TextFault | None:
    """Return the fault of the first character that is refused."""
    for position, (character, refused) in enumerate(zip(text, is_refused, strict=True), start=1):
        if refused:
            message = f"Character {position} is {describe_character(character)}, which is not allowed here: remove it."
            return TextFault("character", message)
    return None
