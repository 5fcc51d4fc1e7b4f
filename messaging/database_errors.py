"""What a database error means for the work that met it: the only table of SQLSTATE codes.

PostgreSQL names every error with a SQLSTATE: five characters, of which the first two are its class. The exception
class says less: psycopg raises an idle-in-transaction timeout (25P03) and a write on a standby (25006) as
`InternalError`, and a defect in a stored function (38000) as `OperationalError`.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import re
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Final, TypeVar

import django.db
import psycopg
from django.db import connection

T = TypeVar("T")


class DatabaseErrorKind(StrEnum):
    """What to do with work that failed with an error."""

    #: The server, the session, the transaction or contention is at fault: the same work may succeed later.
    RETRY = "retry"
    #: The values violate a type or a constraint, whose name (`constraint_of`) says which: they do so again each time.
    REFUSE = "refuse"
    #: A defect of the code, the schema or the data: staff has to see it.
    DEAD_LETTER = "dead_letter"


RETRY, REFUSE, DEAD_LETTER = DatabaseErrorKind

#: The first two characters of a SQLSTATE -> the kind of all of its codes that `CODES` does not list.
CLASSES: Final[dict[str, DatabaseErrorKind]] = {
    "02": DEAD_LETTER,  # no data
    "03": DEAD_LETTER,  # SQL statement not yet complete
    "08": RETRY,  # connection exception; PgBouncer reports its own timeouts as 08P01
    "09": DEAD_LETTER,  # triggered action exception
    "0A": DEAD_LETTER,  # feature not supported
    "0B": DEAD_LETTER,  # invalid transaction initiation
    "0F": DEAD_LETTER,  # locator exception
    "0L": DEAD_LETTER,  # invalid grantor
    "0P": DEAD_LETTER,  # invalid role specification
    "0Z": DEAD_LETTER,  # diagnostics exception
    "10": DEAD_LETTER,  # XQuery error
    "20": DEAD_LETTER,  # case not found
    "21": DEAD_LETTER,  # cardinality violation
    "22": REFUSE,  # data exception
    "23": REFUSE,  # integrity constraint violation
    "24": DEAD_LETTER,  # invalid cursor state
    "25": RETRY,  # invalid transaction state: a new transaction starts without it
    "26": RETRY,  # invalid SQL statement name: the session that prepared it is gone (failover, connection pooler)
    "27": DEAD_LETTER,  # triggered data change violation
    "28": RETRY,  # invalid authorization: a role or its password is missing for a moment in a failover or a rotation
    "2B": DEAD_LETTER,  # dependent privilege descriptors still exist
    "2D": DEAD_LETTER,  # invalid transaction termination
    "2F": DEAD_LETTER,  # SQL routine exception
    "34": DEAD_LETTER,  # invalid cursor name
    "38": DEAD_LETTER,  # external routine exception
    "39": DEAD_LETTER,  # external routine invocation exception
    "3B": DEAD_LETTER,  # savepoint exception
    "3D": RETRY,  # invalid catalog name: the database is missing for a moment in a failover or a restore
    "3F": DEAD_LETTER,  # invalid schema name
    "40": RETRY,  # transaction rollback: deadlock, serialization failure
    "42": DEAD_LETTER,  # syntax error or access rule violation; migrations run first, so a missing table is a defect
    "44": REFUSE,  # WITH CHECK OPTION violation
    "53": RETRY,  # insufficient resources: connections, memory, disk
    "54": DEAD_LETTER,  # program limit exceeded
    "55": RETRY,  # object not in prerequisite state: another session holds it, or recovery has not ended
    "57": RETRY,  # operator intervention: shutdown, start, cancellation, statement and session timeouts
    "58": RETRY,  # system error: the server's files or devices
    "72": RETRY,  # snapshot too old: the next transaction takes a new one
    "F0": RETRY,  # configuration file error: the server's
    "HV": DEAD_LETTER,  # foreign data wrapper error
    "P0": DEAD_LETTER,  # PL/pgSQL error, such as a trigger of the schema that refuses a change
    "XX": DEAD_LETTER,  # internal error and corrupted data: waiting repairs neither
}

#: Single codes that differ from their class.
CODES: Final[dict[str, DatabaseErrorKind]] = {
    "0A000": RETRY,  # "cached plan must not change result type": a migration has changed a column since it was prepared
    "25001": DEAD_LETTER,  # active SQL transaction: a statement that no transaction may contain
    "25P01": DEAD_LETTER,  # no active SQL transaction: a statement that needs one
    "40002": REFUSE,  # integrity constraint violation found at the commit
    "42P05": RETRY,  # duplicate prepared statement: a pooler has changed the session, as with 26000
    # The notification queue is full, or transaction ids run out, until the oldest transaction ends. Bodies and columns
    # are limited far below the other limits of this code (sizes of rows, index entries, JSON).
    "54000": RETRY,
    "55P02": DEAD_LETTER,  # can't change runtime parameter
    "55P04": DEAD_LETTER,  # unsafe new enum value usage
}

#: The kind of errors without a SQLSTATE, by their class. libpq gives none for a connection that cannot be opened or
#: was lost; psycopg gives none for values that it cannot send, such as text with a NUL.
WITHOUT_SQLSTATE: Final[tuple[tuple[tuple[type[Exception], ...], DatabaseErrorKind], ...]] = (
    ((django.db.OperationalError, psycopg.OperationalError), RETRY),
    ((django.db.InterfaceError, psycopg.InterfaceError), RETRY),
    ((django.db.InternalError, psycopg.InternalError), RETRY),
    ((django.db.DataError, psycopg.DataError), REFUSE),
    ((django.db.IntegrityError, psycopg.IntegrityError), REFUSE),
)

LOCK_NOT_AVAILABLE: Final = "55P03"
#: Another transaction held what this one needed; the database itself is well.
CONTENTION: Final = frozenset({LOCK_NOT_AVAILABLE, "40001", "40P01"})
#: The place of a tuple in the context of an error: "while inserting index tuple (0,1) in relation \"…\"". PostgreSQL
#: reports it where a statement waits for the transaction that wrote a row or an index entry, and not where it waits for
#: a lock on a table. The words around it are translated (`lc_messages`); the numbers and the name are not.
TUPLE_PLACE: Final = re.compile(r"\(\d+,\d+\)")
#: They come again over the same session: its server has become a standby, or its prepared statements are not those
#: that psycopg believes it has.
SESSION_BOUND: Final = frozenset({"0A000", "25006", "26000", "42P05"})


def classify(error: BaseException) -> DatabaseErrorKind:
    """Return what to do with work that failed with `error`, an exception of Django's or psycopg's.

    Any other exception is a defect: DEAD_LETTER.
    """
    if sqlstate := sqlstate_of(error):
        return CODES.get(sqlstate) or CLASSES.get(sqlstate[:2], DEAD_LETTER)
    return next((kind for classes, kind in WITHOUT_SQLSTATE if isinstance(error, classes)), DEAD_LETTER)


def is_retryable(error: BaseException) -> bool:
    """Return whether the same work may succeed later."""
    return classify(error) is RETRY


def is_contention(error: BaseException) -> bool:
    """Return whether another transaction was in the way, and the database itself is well."""
    return sqlstate_of(error) in CONTENTION


def is_row_lock_timeout(error: BaseException, relations: Collection[str]) -> bool:
    """Return whether a statement waited too long for another transaction's row or index entry in one of `relations`.

    False for a lock on a whole table, which a migration or a hung session holds, and for rows of other tables.
    """
    source = _psycopg_error(error)
    if source is None or source.sqlstate != LOCK_NOT_AVAILABLE:
        return False
    lines = (source.diag.context or "").splitlines()
    return any(set(re.findall(r"\w+", line)).intersection(relations) for line in lines if TUPLE_PLACE.search(line))


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE of a database error; empty if it has none."""
    source = _psycopg_error(error)
    return (source.sqlstate or "") if source else ""


def constraint_of(error: BaseException) -> str:
    """Return the name of the constraint that was violated; empty if it was none."""
    source = _psycopg_error(error)
    return (source.diag.constraint_name or "") if source else ""


def close_unfit_session(error: BaseException) -> None:
    """Close this thread's connection where the same error would come again over it.

    Django keeps it otherwise: the session still answers `SELECT 1`.
    """
    if sqlstate_of(error) in SESSION_BOUND and not connection.in_atomic_block:
        connection.close()


def retry_while_unavailable(
    operation: Callable[[], T],
    *,
    pauses: Iterable[float],
    on_retry: Callable[[], object],
    sleep: Callable[[float], None],
) -> T:
    """Return what `operation` returns, trying again over a new session after each error that is RETRY.

    `pauses`: the waits (s) between the tries; the next one is taken after a try has failed, and once there is none the
    error is raised. `on_retry` is called before each wait.

    Raises:
        Exception: what `operation` raised, at once if it is not RETRY.
    """
    waits = iter(pauses)
    while True:
        try:
            return operation()
        except django.db.Error as error:
            if not is_retryable(error) or (pause := next(waits, None)) is None:
                raise
        on_retry()
        connection.close()
        sleep(pause)


def _psycopg_error(error: BaseException) -> psycopg.Error | None:
    """Return psycopg's exception, which Django's has as its cause."""
    source = error.__cause__ if isinstance(error, django.db.Error) else error
    return source if isinstance(source, psycopg.Error) else None
