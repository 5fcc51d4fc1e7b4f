"""Which key a request has, and when two requests are the same."""

import pytest

from payments.errors import IdempotencyKeyInvalid, IdempotencyKeyMismatch, IdempotencyKeyMissing
from payments.idempotency import choose_key, fingerprint


@pytest.mark.parametrize(
    ("header", "field", "key"),
    [
        ("key-1", None, "key-1"),
        (None, "key-1", "key-1"),
        ("key-1", "key-1", "key-1"),
        ('"key-1"', None, "key-1"),
        (None, '"key-1"', "key-1"),
        ('"key-1"', "key-1", "key-1"),
        (" key-1 ", None, "key-1"),  # HTTP allows it
        ("Az09._:-", None, "Az09._:-"),
        ("k", None, "k"),
        ("a/b+c==", None, "a/b+c=="),
        ('"{a/b}"', "{a/b}", "{a/b}"),
        (None, "!#$%&'()*+-./:;<=>?@[]^_`{|}~", "!#$%&'()*+-./:;<=>?@[]^_`{|}~"),
        ("k" * 255, None, "k" * 255),
        (f'"{"k" * 255}"', None, "k" * 255),
    ],
)
def test_a_sound_key_is_taken_from_wherever_it_stands(header, field, key):
    assert choose_key(header, field) == key


def test_a_request_without_a_key_is_refused():
    with pytest.raises(IdempotencyKeyMissing):
        choose_key(None, None)


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        '""',
        '"',
        '"key',
        'key"',
        'ke"y',
        "a b",
        "a\nb",
        "a,b",
        '"a,b"',
        "a\\b",
        "a\x7f",
        "ключ",
        "k\x00",
        "k\ud800",
        "k" * 256,
    ],
)
def test_a_malformed_key_is_refused_in_the_header_and_in_the_body(key):
    with pytest.raises(IdempotencyKeyInvalid):
        choose_key(key, None)
    with pytest.raises(IdempotencyKeyInvalid):
        choose_key(None, key)


@pytest.mark.parametrize("key", ["a,b", '"a,b"', '"a","b"', "a\\b", "a\x7f", "a b"])
def test_a_key_that_could_be_read_in_two_ways_is_refused(key):
    """Two headers `Idempotency-Key` come as one, with a comma: taken for a key, it would charge again."""
    with pytest.raises(IdempotencyKeyInvalid):
        choose_key(key, None)


@pytest.mark.parametrize(("header", "field"), [("key-1", "key-2"), ("key-1", "KEY-1"), ("key-1", ""), ("", "key-1")])
def test_two_different_keys_are_refused_and_none_is_preferred(header, field):
    with pytest.raises(IdempotencyKeyMismatch):
        choose_key(header, field)


def test_the_order_of_names_does_not_change_the_fingerprint():
    one = {"amount": 1, "metadata": {"a": "1", "b": "2"}}
    other = {"metadata": {"b": "2", "a": "1"}, "amount": 1}
    assert fingerprint("op", one) == fingerprint("op", other)


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 2, "order_id": "o"},
        {"amount": "1", "order_id": "o"},
        {"amount": 1, "order_id": "O"},
        {"amount": 1, "order_id": ""},
        {"amount": 1},
        {"amount": 1, "order_id": "o", "user_id": ""},
        {"amount": "o", "order_id": 1},
    ],
)
def test_no_other_request_has_the_same_fingerprint(changed):
    assert fingerprint("op", changed) != fingerprint("op", {"amount": 1, "order_id": "o"})


def test_another_operation_with_the_same_values_has_another_fingerprint():
    assert fingerprint("payments.create", {"amount": 1}) != fingerprint("payments.capture", {"amount": 1})


def test_a_release_never_changes_the_fingerprint_of_a_request():
    """Fingerprints are kept for 30 days: with another canonical form, replays of old requests would become 422s."""
    stored = "9405eb37da098a07336a8af915dddd7c2bad9f06dc1d3efafbb3e24e9e91c47d"
    assert fingerprint("payments.create", {"amount": 1000, "metadata": {"a": "ö"}}).hex() == stored
