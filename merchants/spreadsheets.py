"""CSV for spreadsheets: written row by row, and no cell of it is ever a formula.

https://owasp.org/www-community/attacks/CSV_Injection: programs take text for a formula by its first character, some
after spaces or in full width; an apostrophe in front makes it text. Texts stand in quotes, so that a program that
separates by semicolons splits none of them. The byte order mark has Excel read UTF-8.
"""

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.db.models import Model, QuerySet
from django.http import StreamingHttpResponse

FORMULA: Final = frozenset("=+-@\t\r\n|")
BYTE_ORDER_MARK: Final = "\ufeff"
#: Rows that are read at a time: what is in memory of a table of any length.
AT_ONCE: Final = 1000

#: Heading -> what stands below it.
Columns = Mapping[str, Callable[[Any], Any]]


def cell(value: Any) -> str | int | float | Decimal:
    """A value as a cell: numbers stay numbers, and text stays text."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return value
    return harmless(as_text(value))


def as_text(value: Any) -> str:
    """A value in words; times are in UTC."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def harmless(text: str) -> str:
    """The text, with an apostrophe in front where a program could take it for a formula."""
    first = text[:1]
    seen = next((sign for sign in unicodedata.normalize("NFKC", text) if not is_skipped(sign)), "")
    return f"'{text}" if first in FORMULA or seen in FORMULA else text


def is_skipped(sign: str) -> bool:
    """Whether programs may look past it: spaces, and what is not to be seen."""
    return sign.isspace() or unicodedata.category(sign) in {"Cc", "Cf"}


class Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        """The line."""
        return line


def lines(columns: Columns, rows: Iterable[Any]) -> Iterator[str]:
    """The lines of a file, with its heading."""
    writer = csv.writer(Echo(), quoting=csv.QUOTE_NONNUMERIC)
    yield BYTE_ORDER_MARK + writer.writerow([cell(heading) for heading in columns])
    for row in rows:
        yield writer.writerow([cell(value(row)) for value in columns.values()])


def newest_first(queryset: QuerySet[Any]) -> Iterator[Any]:
    """All rows of a queryset by its key, a few at a time: no cursor is held open, and no snapshot."""
    ordered, last = queryset.order_by("-pk"), None
    while True:
        page: Sequence[Model] = list((ordered if last is None else ordered.filter(pk__lt=last))[:AT_ONCE])
        yield from page
        if len(page) < AT_ONCE:
            return
        last = page[-1].pk


def download(name: str, columns: Columns, rows: Iterable[Any]) -> StreamingHttpResponse:
    """The answer that a browser keeps as a file; it is written while it is sent."""
    body = (line.encode() for line in lines(columns, rows))
    response = StreamingHttpResponse(body, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response
