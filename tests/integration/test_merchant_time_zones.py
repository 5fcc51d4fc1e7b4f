"""A merchant's time zone: one name that nobody knows would end the metrics of all merchants."""

import pytest
from django.core.exceptions import ValidationError

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
