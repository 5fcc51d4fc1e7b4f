"""The database's clock: the one that all processes share."""

from datetime import datetime

from django.db import connection


def database_time() -> datetime:
    """Return the time of this statement by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment
