"""A merchant's time zone: one name that nobody knows would end the metrics of all merchants."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from analytics.time_zones import REGIONS, region_of
from merchants.models.people import validate_time_zone


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["localtime", "Mars/Olympus", "europe/berlin", "UTC+3", "", "../etc/passwd", "x" * 99])
def test_a_zone_that_python_or_postgresql_does_not_know_is_refused(name):
    with pytest.raises(ValidationError, match="no IANA time zone"):
        validate_time_zone(name)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["UTC", "Asia/Kathmandu", "Pacific/Apia", "America/Argentina/Buenos_Aires"])
def test_a_zone_that_both_know_is_taken(name):
    validate_time_zone(name)


def read_names(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db
def test_an_abbreviation_is_refused_with_advice():
    """PostgreSQL reads CET as one hour east of UTC, also in summer."""
    abbreviations = read_names(
        "SELECT name FROM pg_timezone_names AS zone JOIN pg_timezone_abbrevs AS short ON short.abbrev = upper(name)"
    )
    assert set(REGIONS) < abbreviations
    assert {"EST", "HST", "MST"} < abbreviations
    for name in (abbreviations & available_timezones()) - {"UTC"}:
        with pytest.raises(ValidationError, match=r"is an abbreviation\. Name the region, such as Europe/Berlin"):
            validate_time_zone(name)


@pytest.mark.django_db
@pytest.mark.parametrize("moment", [datetime(2026, 1, 15, 12, tzinfo=UTC), datetime(2026, 7, 15, 12, tzinfo=UTC)])
def test_each_zone_has_the_same_offset_in_postgresql_and_python(moment):
    """Including those that merchants may still have from before the validator refused abbreviations."""
    names = sorted(read_names("SELECT name FROM pg_timezone_names") & available_timezones() - {"localtime"})
    assert len(names) > 400
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT name, extract(epoch FROM (%s::timestamptz AT TIME ZONE {region_of('name')})"
            " - (%s::timestamptz AT TIME ZONE 'UTC'))"
            " FROM unnest(%s::text[]) AS name",
            [moment, moment, names],
        )
        in_postgresql = {name: float(seconds) for name, seconds in cursor.fetchall()}
    in_python = {name: moment.astimezone(ZoneInfo(name)).utcoffset().total_seconds() for name in names}
    assert in_postgresql == in_python
