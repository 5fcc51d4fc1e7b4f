"""Timestamps come out of PostgreSQL as they went in, whatever the session's own time zone."""

from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from django.db import DataError, connection
from hypothesis import given
from hypothesis import strategies as st

from messaging.timestamps import TimestampLoader

pytestmark = pytest.mark.django_db

OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 30), timezones=OFFSETS)  # noqa: DTZ001  # hypothesis adds the zone


def read(literal):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [literal])
        return cursor.fetchone()[0]


def test_django_s_connections_read_by_it():
    connection.ensure_connection()
    oid = psycopg.adapters.types["timestamptz"].oid
    assert connection.connection.adapters.get_loader(oid, psycopg.pq.Format.TEXT) is TimestampLoader


@given(moment=MOMENTS)
def test_a_moment_comes_back_in_utc(moment):
    found = read(moment)
    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns", "Africa/Monrovia", "UTC"])
@pytest.mark.parametrize("moment", ["1900-01-01 00:00:00.5", "2026-03-29 01:59:59.999999", "2026-10-25 00:30:00.12"])
def test_whatever_the_session_s_time_zone(zone, moment):
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, true)", [zone])
    assert read(f"{moment}+00") == datetime.fromisoformat(f"{moment}+00:00")


@pytest.mark.parametrize("literal", ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "20260-01-01 00:00:00+00"])
def test_what_python_cannot_hold_is_an_error(literal):
    with pytest.raises(DataError, match="timestamp"):
        read(literal)
