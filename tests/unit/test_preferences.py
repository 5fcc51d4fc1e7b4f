"""`Prefer`: what RFC 7240 allows is understood, and whatever else comes is ignored."""

import time

import pytest

from payments.preferences import LONGEST_WAIT, preferred_wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("wait=1", 1),
        ("wait=30", 30),
        ("wait=007", 7),
        ("WAIT = 10", 10),
        ("wait\t=\t10", 10),
        ('wait="10"', 10),
        ('wait="1\\0"', 10),
        ("respond-async, wait=5", 5),
        ("wait=5, respond-async", 5),
        ("return=minimal,wait=5,handling=lenient", 5),
        (",, wait=5 ,", 5),
        ("wait=5; foo", 5),
        ('wait=5 ; foo="a, b;" ;; bar = baz', 5),
        ('foo="a, wait=3", wait=4', 4),
        ('foo="\\", wait=3", wait=4', 4),
        ('foo; bar="; wait=3, wait=3", wait=4', 4),
        ("foo=, wait=5", 5),
    ],
)
def test_no_spelling_that_the_rfc_allows_is_overlooked(header, seconds):
    assert preferred_wait(header) == seconds


@pytest.mark.parametrize("header", ["wait=31", "wait=99999999", f"wait={'9' * 8000}"])
def test_nobody_waits_longer_than_the_longest_wait(header):
    assert preferred_wait(header) == LONGEST_WAIT == 30


@pytest.mark.parametrize(
    "header",
    [
        "", ",", ";", "=", '"', "\\", "wait", "wait=", 'wait=""', "wait=0", "wait=-1", "wait=+1", "wait=1.5",
        "wait=1e1", "wait=ten", "wait=²", "wait=\u0663", "wait=5 5", "wait==5", "wait 5", "waits=5", "x-wait=5",
        "wait:5", "=5", 'wait="5', '"wait"=5', '"wait=5"', "foo;wait=5", "foo; wait=5", 'foo="wait=5"',
        'foo=", wait=5', "wait=5\x00",
    ],
)  # fmt: skip
def test_what_is_malformed_or_unknown_is_ignored(header):
    assert preferred_wait(header) == 0


@pytest.mark.parametrize("header", ["wait=5, wait=7", "wait=5, WAIT=7"])
def test_the_second_of_two_waits_never_counts(header):
    assert preferred_wait(header) == 5


def test_a_first_wait_without_a_sound_value_is_never_replaced_by_a_second():
    assert preferred_wait("wait=soon, wait=7") == 0


def test_a_malformed_member_does_not_spoil_the_others():
    assert preferred_wait("wait 5, wait=7") == 7
    assert preferred_wait("wait=5 5, wait=7") == 7


#: So long that what takes the square of it takes minutes: 1e9 steps.
LONG = 32_000


@pytest.mark.parametrize(
    "header",
    [
        "a" * LONG, "a" + ";" * LONG, "a" + " ;" * LONG + "\x00", "a=" + " " * LONG + "\x00",
        "a" + " \t" * LONG + "\x00", 'a="' + "\\" * LONG, '"' * (LONG + 1), '"\\' * LONG, 'a="a"' * LONG,
        "a" + "; a = " * LONG + "\x00", ", a ;" * LONG, " " * LONG + "\x00",
    ],
)  # fmt: skip
def test_no_hostile_header_takes_its_time(header):
    began = time.process_time()
    assert preferred_wait(header) == 0
    assert time.process_time() - began < 2.0  # seconds of CPU; here it takes about 0.02
