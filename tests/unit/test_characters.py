"""Characters that identifiers and texts must not contain, and the form in which identifiers are compared."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers

from merchants.characters import describe_character, find_identifier_fault, find_text_fault, normalize_identifier
from merchants.strict import IdentifierField

FIELD = IdentifierField(max_length=255)
#: Texts of characters that compose, decompose and reorder, and of some that are refused.
TEXTS = st.text(
    st.sampled_from("aeo A1éüÅ\u212b\u0301\u0308\u0323\u0327\u1e9b가\u1100\u1161\u200b\u00a0\u0958"), max_size=8
)


def accepted(text):
    """The stored identifier, or None where the text is refused."""
    try:
        return FIELD.run_validation(text)
    except serializers.ValidationError:
        return None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("order\u200b-1", "Character 6 is U+200B ZERO WIDTH SPACE"),
        ("\ufefforder", "Character 1 is U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("order\u00a01", "Character 6 is U+00A0 NO-BREAK SPACE"),
        ("or\u00adder", "Character 3 is U+00AD SOFT HYPHEN"),
        ("a\u202eb", "Character 2 is U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("a\u200fb", "Character 2 is U+200F RIGHT-TO-LEFT MARK"),
        ("a\u200d", "Character 2 is U+200D ZERO WIDTH JOINER"),
        ("a\tb", "Character 2 is U+0009 TAB"),
        ("ab\n", "Character 3 is U+000A LINE FEED"),
        ("a\0", "Character 2 is U+0000 NULL"),
        ("a\x1b", "Character 2 is U+001B CONTROL CHARACTER"),
        ("a\u2028b", "Character 2 is U+2028 LINE SEPARATOR"),
        ("a\u3000b", "Character 2 is U+3000 IDEOGRAPHIC SPACE"),
        ("a\ue000", "Character 2 is U+E000 PRIVATE USE"),
        ("a\ufdd0", "Character 2 is U+FDD0 UNASSIGNED"),
        ("a\ud800", "Character 2 is U+D800 SURROGATE"),
        ("a\u034f", "Character 2 is U+034F COMBINING GRAPHEME JOINER"),
        ("a\u3164", "Character 2 is U+3164 HANGUL FILLER"),
        ("a\ufe0f", "Character 2 is U+FE0F VARIATION SELECTOR-16"),
        (" a", "Character 1 is a space"),
        ("a  ", "Character 3 is a space"),
    ],
)
def test_an_identifier_is_refused_with_the_character_and_its_position(text, fault):
    assert find_identifier_fault(text).message.startswith(fault)
    assert accepted(text) is None


@pytest.mark.parametrize("text", ["o-1", "a b", "Jörg Müller", "用户", "🐘", "a/b?c#d", "\u05d0\u05d1", "e\u0301"])
def test_an_identifier_of_visible_characters_is_accepted(text):
    assert find_identifier_fault(text) is None
    assert accepted(text) == unicodedata.normalize("NFC", text)


def test_every_refused_character_has_a_description():
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if find_identifier_fault(f"a{character}b"):
            assert describe_character(character).startswith(f"U+{number:04X} ")
        else:
            assert find_identifier_fault(f"a{normalize_identifier(character)}b") is None


@given(one=TEXTS, other=TEXTS)
def test_two_accepted_identifiers_that_are_equal_in_nfc_are_stored_as_one(one, other):
    for text in (one, unicodedata.normalize("NFD", one), unicodedata.normalize("NFC", one)):
        if accepted(one) is not None:
            assert accepted(text) == accepted(one) == unicodedata.normalize("NFC", one)
    if None not in {accepted(one), accepted(other)}:
        alike = unicodedata.normalize("NFD", one) == unicodedata.normalize("NFD", other)
        assert (accepted(one) == accepted(other)) is alike


@pytest.mark.parametrize("text", ["a\tb\r\nc", "caf\u00e9\u00a0!", "❤\ufe0f", "\U0001fae9", " padded "])
def test_free_text_may_have_line_breaks_and_every_space(text):
    assert find_text_fault(text) is None


@pytest.mark.parametrize(
    "character", ["\0", "\x1b", "\x85", "\u200b", "\u202e", "\ufeff", "\u00ad", "\u2028", "\u2029"]
)
def test_free_text_has_no_other_control_or_format_characters(character):
    fault = find_text_fault(f"ab{character}")
    assert fault.message.startswith(f"Character 3 is U+{ord(character):04X} ")
