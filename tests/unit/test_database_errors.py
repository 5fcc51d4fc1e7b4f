"""The table of SQLSTATE codes: complete, and the same for Django's exceptions and psycopg's."""

import django.db
import psycopg
import pytest
from django.db import connection
from psycopg import errors

from messaging import database_errors
from messaging.database_errors import DatabaseErrorKind, classify, constraint_of, is_contention, sqlstate_of
from tests.database_faults import SQLSTATES

RETRY, REFUSE, DEAD_LETTER = DatabaseErrorKind

#: What is RETRY, code by code: one that is missing here, or in the table, is a decision that somebody has to take.
RETRIED = """
    08000 08001 08003 08004 08006 08007 08P01
    0A000
    25000 25002 25003 25004 25005 25006 25007 25008 25P02 25P03 25P04
    26000 28000 28P01 3D000
    40000 40001 40003 40P01
    42P05
    53000 53100 53200 53300 53400
    54000
    55000 55006 55P03
    57000 57014 57P01 57P02 57P03 57P04 57P05
    58000 58030 58P01 58P02 58P03
    72000 F0000 F0001
"""


def as_django_raises(error):
    """The error as it comes out of a statement."""
    try:
        with connection.wrap_database_errors:
            raise error
    except django.db.Error as raised:
        return raised


def test_every_class_and_code_that_psycopg_knows_is_in_the_table():
    assert len(SQLSTATES) > 250
    assert {sqlstate[:2] for sqlstate in SQLSTATES} == set(database_errors.CLASSES)
    assert set(database_errors.CODES) <= set(SQLSTATES)
    differing = {code for code, kind in database_errors.CODES.items() if kind != database_errors.CLASSES[code[:2]]}
    assert differing == set(database_errors.CODES), "an exception that is none"


def test_what_is_retried_is_exactly_what_may_succeed_later():
    kinds = {sqlstate: classify(errors.lookup(sqlstate)("made up")) for sqlstate in SQLSTATES}
    assert sorted(sqlstate for sqlstate, kind in kinds.items() if kind is RETRY) == sorted(RETRIED.split())
    refused = {sqlstate for sqlstate, kind in kinds.items() if kind is REFUSE}
    assert {sqlstate[:2] for sqlstate in refused} == {"22", "23", "40", "44"}
    assert refused >= {"23505", "22P02", "40002"}


@pytest.mark.parametrize("sqlstate", SQLSTATES)
def test_djangos_exception_is_of_the_same_kind_as_its_cause(sqlstate):
    error = errors.lookup(sqlstate)("made up")
    raised = as_django_raises(error)
    assert raised.__cause__ is error
    assert classify(raised) is classify(error)
    assert sqlstate_of(raised) == sqlstate_of(error) == sqlstate


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.OperationalError("connection refused"), RETRY),
        (errors.ConnectionTimeout("connection timeout expired"), RETRY),
        (psycopg.InterfaceError("the connection is closed"), RETRY),
        (psycopg.InternalError("unexpected result"), RETRY),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), REFUSE),
        (psycopg.IntegrityError("violated"), REFUSE),
        (psycopg.ProgrammingError("the query has 1 placeholders but 2 parameters were passed"), DEAD_LETTER),
        (psycopg.NotSupportedError("no"), DEAD_LETTER),
        (psycopg.DatabaseError("no"), DEAD_LETTER),
    ],
)
def test_what_comes_without_a_code_goes_by_its_class(error, kind):
    assert classify(error) is kind
    assert classify(as_django_raises(error)) is kind


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("no"), ConnectionResetError("no")])
def test_what_is_no_error_of_the_database_is_a_defect(error):
    assert classify(error) is DEAD_LETTER
    assert sqlstate_of(error) == constraint_of(error) == ""


def test_a_code_of_a_later_version_goes_by_its_class():
    class OfALaterVersion(psycopg.OperationalError):
        sqlstate = "57P99"

    class OfAnotherServer(psycopg.DatabaseError):
        sqlstate = "ZZ000"

    assert classify(OfALaterVersion("a new timeout")) is RETRY
    assert classify(OfAnotherServer("a new class")) is DEAD_LETTER


@pytest.mark.parametrize(("sqlstate", "is_one"), [("55P03", True), ("40P01", True), ("40001", True), ("57014", False)])
def test_contention_is_told_from_an_unavailable_database(sqlstate, is_one):
    assert is_contention(as_django_raises(errors.lookup(sqlstate)("made up"))) is is_one
