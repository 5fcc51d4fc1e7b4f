"""How long an escaped message waits before it is tried again."""

from datetime import timedelta

from messaging.escapes import LIMIT, delay_after


def test_each_escape_waits_longer_than_the_one_before_up_to_the_longest():
    delays = [delay_after(escapes).total_seconds() for escapes in range(1, 9)]
    assert delays == [1, 4, 16, 64, 256, 300, 300, 300]


def test_a_message_is_not_given_up_before_a_quarter_of_an_hour():
    patience = sum((delay_after(escapes) for escapes in range(1, LIMIT)), timedelta(0))
    assert timedelta(minutes=15) <= patience <= timedelta(minutes=20)
