"""A cache backend that can do what rate limits need, and nothing else: count, atomically, in PostgreSQL."""

from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import connection

#: A key that has expired counts from anew, in the same statement.
ADD = """
    INSERT INTO merchants_counter AS counter (key, count, expires_at)
    VALUES (%(key)s, %(count)s, clock_timestamp() + %(timeout)s * interval '1 second')
    ON CONFLICT (key) DO UPDATE SET count = excluded.count, expires_at = excluded.expires_at
    WHERE counter.expires_at <= clock_timestamp()
    RETURNING true
"""
INCREASE = """
    UPDATE merchants_counter SET count = count + %(delta)s
    WHERE key = %(key)s AND expires_at > clock_timestamp()
    RETURNING count
"""


class PostgresCounters(BaseCache):
    """Counts in the table `merchants_counter`."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(self, key: str, value: Any, timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Begin to count, unless that was done; True if it was not."""
        seconds = self.default_timeout if timeout in {DEFAULT_TIMEOUT, None} else timeout
        values = {"key": self.make_and_validate_key(key, version=version), "count": value, "timeout": seconds}
        with connection.cursor() as cursor:
            cursor.execute(ADD, values)
            return cursor.fetchone() is not None

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Count on.

        Raises:
            ValueError: nobody counts under this key, as Django's interface wants it.
        """
        with connection.cursor() as cursor:
            cursor.execute(INCREASE, {"key": self.make_and_validate_key(key, version=version), "delta": delta})
            row = cursor.fetchone()
        if row is None:
            raise ValueError(key)
        return int(row[0])

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The count."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count FROM merchants_counter WHERE key = %s AND expires_at > clock_timestamp()",
                [self.make_and_validate_key(key, version=version)],
            )
            row = cursor.fetchone()
        return default if row is None else int(row[0])
