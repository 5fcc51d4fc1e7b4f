"""Ids are version 7 UUIDs: ordered by time, unique within a millisecond."""

import uuid
from datetime import UTC, datetime, timedelta

import time_machine

from payments.ids import uuid7

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_an_id_has_the_version_and_variant_of_rfc_9562():
    for _ in range(100):
        made = uuid7()
        assert made.version == 7
        assert made.variant == uuid.RFC_4122


def test_an_id_begins_with_the_milliseconds_of_its_time():
    moment = NOON + timedelta(milliseconds=123)
    with time_machine.travel(moment, tick=False):
        assert uuid7().int >> 80 == round(moment.timestamp() * 1000)


def test_an_id_never_sorts_before_one_of_an_earlier_millisecond():
    made = []
    for millisecond in range(50):
        with time_machine.travel(NOON + timedelta(milliseconds=millisecond), tick=False):
            made.append(uuid7())
    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)


def test_ids_of_the_same_millisecond_differ():
    with time_machine.travel(NOON, tick=False):
        assert len({uuid7() for _ in range(1000)}) == 1000
