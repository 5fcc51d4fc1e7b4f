"""An SMS is paid by the segment: a text of ours is never longer than one, and never without its amount."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.sms import segments
from notifications.texts import amount_in, text_of
from payments.money import EXPONENTS, MAX_MINOR_UNITS, to_major_units
from tests.notices import PAYMENT_ID, PAYMENT_KINDS, notice

SCRIPTS = ["😀", "👩‍👩‍👧", "سوق", "שוק", "Магазин", "市場", "हिन्दी", "ı"]
NASTY = [*SCRIPTS, "€", "{|}", "\n", "\r", "\x00", "\u2028", "\u202e", "\ud800"]
NAMES = st.one_of(st.text(max_size=300), st.lists(st.sampled_from([*NASTY, "Shop", " "]), max_size=90).map("".join))


def test_the_alphabet_is_the_standard_one():
    """3GPP TS 23.038: 128 codes, of which one is the escape; ten characters in the extension."""
    assert len(segments.BASIC) == 127
    assert len(segments.EXTENSION) == 10
    assert not segments.BASIC & segments.EXTENSION


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("a" * 160, 160),
        ("€", 2),
        ("[a]", 5),
        ("ÄÖÜäöüß", 7),
        ("ç", 1),
        ("Ω", 1),
        ("я", 1),
        ("😀", 2),
        ("a😀", 3),
    ],
)
def test_what_counts_twice_is_not_counted_once(text, length):
    assert segments.length_of(text) == length


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("a" * 160, True), ("a" * 161, False), ("€" * 80, True), ("€" * 81, False), ("я" * 70, True),
        ("я" * 71, False), ("😀" * 35, True), ("😀" * 36, False), ("a" * 70 + "я", False),
    ],
    ids=str,
)  # fmt: skip
def test_a_second_segment_is_noticed(text, fits):
    assert segments.fits(text) is fits


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Müller & Söhne", "Müller & Söhne"),
        ("Françoise’s “Café” – naïve…", 'Francoise\'s "Café" - naive...'),
        ("Pizza 🍕 Roma", "Pizza Roma"),
        ("Ťažký život", "Tazky zivot"),
        ("Shop™", "ShopTM"),
        ("Магазин 🛒", "Магазин 🛒"),
    ],
)
def test_an_ornament_does_not_cost_half_of_the_text(text, written):
    assert segments.written(text) == written


@given(NAMES, st.integers(0, 200))
def test_a_text_that_is_cut_never_outgrows_its_room(text, room):
    measure = segments.length_of if segments.is_gsm(text) else segments.units_of
    assert measure(segments.cut(text, room)) <= room


@settings(max_examples=500)
@given(
    kind=st.sampled_from(PAYMENT_KINDS),
    mode=st.sampled_from(["test", "live"]),
    language=st.sampled_from(["en", "de"]),
    merchant=NAMES,
    order_id=NAMES | st.none(),
    currency=st.sampled_from(sorted(EXPONENTS)),
    minor=st.integers(1, MAX_MINOR_UNITS),
)
def test_no_sms_outgrows_one_segment_or_loses_its_amount(kind, mode, language, merchant, order_id, currency, minor):
    amount = to_major_units(minor, currency)
    data = {"order_id": order_id, "currency": currency, "amount": amount, "amount_captured": amount}
    sms = notice(kind[1], audience=kind[0], mode=mode, language=language, merchant=merchant, data=data)
    text = text_of(sms)
    assert segments.fits(text)
    assert amount_in(sms) in text
    assert text.startswith("TEST: ") is (mode == "test")
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_an_sms_says_who_and_what_and_which():
    text = "Shop: payment of €1,234.50 failed. You have not been charged. Order order-123."
    assert text_of(notice("payment.failed")) == text
    german = "Shop: Zahlung über 1.234,50 € gescheitert. Es wurde nichts abgebucht. Bestellung order-123."
    assert text_of(notice("payment.failed", language="de")) == german


def test_a_payment_without_an_order_is_still_found():
    assert PAYMENT_ID in text_of(notice(data={"order_id": None}))


def test_a_currency_that_the_alphabet_lacks_does_not_force_short_texts():
    assert "INR 10.00" in text_of(notice(data={"currency": "INR", "amount_captured": "10.00"}))


def test_a_name_in_another_script_is_kept_where_it_fits():
    assert text_of(notice(merchant="Магазин")).startswith("Магазин: payment of €1,234.50")


def test_a_long_order_id_gives_way_with_an_ellipsis():
    text = text_of(notice(data={"order_id": "o" * 255}))
    assert text.endswith("oo....")
    assert segments.length_of(text) == segments.SEPTETS
