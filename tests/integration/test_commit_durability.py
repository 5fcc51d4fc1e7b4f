"""Sessions of the application wait for durable commits, whatever the server's default is."""

import psycopg
import pytest
from django.db import Error, OperationalError, connection

from messaging import commit_durability

pytestmark = pytest.mark.django_db


def connect(*, options="", **changes):
    """Return a new connection like the application's own, with additional startup options."""
    made = connection.copy()
    given = {**made.settings_dict["OPTIONS"], **changes}
    given["options"] = f"{given['options']} {options}"
    made.settings_dict["OPTIONS"] = given
    return made


def synchronous_commit_of(made):
    try:
        with made.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return cursor.fetchone()[0]
    finally:
        made.close()


@pytest.mark.parametrize(
    ("configured", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
def test_a_session_never_waits_for_less_than_a_durable_commit(configured, used):
    """And for no less than the administrator has configured."""
    assert synchronous_commit_of(connect(options=f"-c synchronous_commit={configured}")) == used


def test_the_setting_outlives_a_rolled_back_transaction():
    made = connect(options="-c synchronous_commit=off")
    with made.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("ROLLBACK")
    assert synchronous_commit_of(made) == "on"


def test_a_connection_that_could_not_be_set_up_is_not_used(monkeypatch):
    monkeypatch.setattr(commit_durability, "RAISE_TO_ON", "SELECT 1 / 0")
    made = connect(options="-c synchronous_commit=off")
    with pytest.raises(Error):
        made.ensure_connection()
    assert made.connection is None


def test_an_error_of_the_driver_is_translated(monkeypatch):
    """Callers retry `OperationalError` of Django, and know none of psycopg's."""

    def fail(_sql):
        raise psycopg.OperationalError("the connection is lost")

    made = connect()
    made.ensure_connection()
    monkeypatch.setattr(made.connection, "execute", fail)
    with pytest.raises(OperationalError):
        commit_durability.raise_synchronous_commit(connection=made)
    assert made.connection is None
