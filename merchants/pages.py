"""Pages by cursor: stable while rows arrive, and as fast on the last page as on the first.

A cursor names the row that it stands behind by every field of the order, the last of which is unique. Rows that share
a moment are therefore neither skipped nor repeated, however many there are.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from django.db.models import Q
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

#: Between the fields of a position; none of their texts contains it.
SEPARATOR: Final = ","
#: Stands for a position before the first row or, backwards, behind the last.
END: Final = "end"


def read_moment(text: str) -> datetime:
    """Return the moment as UTC. Raises ValueError or OverflowError if the text is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(UTC)


def read_number(text: str) -> int:
    """Return the number; eighteen digits fit the column. Raises ValueError if the text is none."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a page starts: behind a row, or with the first or last one if there is none; and in which direction."""

    position: Mapping[str, Any]
    backwards: bool


class ByCursor(CursorPagination):
    """Pages of a list; subclasses name the order of its rows."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    #: Field -> how a cursor's text for it is read. All fields are ordered alike; the last one is unique.
    fields: ClassVar[dict[str, Callable[[str], Any]]]
    newest_first: ClassVar = True

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the rows of the page that the request's cursor leads to.

        Raises:
            ValidationError: the page's size or the cursor is not valid.
        """
        self.request = request
        self.address = request.build_absolute_uri()
        self.page_size = self.get_page_size(request)
        start = self.read_cursor(request.query_params.get(self.cursor_query_param))
        descending = self.newest_first != start.backwards
        rows = queryset.order_by(*(f"-{name}" if descending else name for name in self.fields))
        if start.position:
            rows = rows.filter(rows_behind(start.position, "lt" if descending else "gt"))
        found = list(rows[: self.page_size + 1])
        shown, has_more, has_before = found[: self.page_size], len(found) > self.page_size, bool(start.position)
        if start.backwards:
            shown.reverse()
        self.has_next, self.has_previous = (has_before, has_more) if start.backwards else (has_more, has_before)
        self.page = shown
        return shown

    def get_next_link(self) -> str | None:
        """Return the address of the page after this one, if there is one."""
        return self.link((self.page or [])[-1:], backwards=False) if self.has_next else None

    def get_previous_link(self) -> str | None:
        """Return the address of the page before this one, if there is one."""
        return self.link((self.page or [])[:1], backwards=True) if self.has_previous else None

    def link(self, edge: Sequence[Any], *, backwards: bool) -> str:
        """Return the address of the page beyond a row; without one, of the first page or, backwards, of the last."""
        position = SEPARATOR.join(str(getattr(row, name)) for row in edge for name in self.fields)
        query = urlencode({"r": "1", "p": position or END} if backwards else {"p": position or END})
        cursor = b64encode(query.encode()).decode()
        return str(replace_query_param(self.address, self.cursor_query_param, cursor))

    def read_cursor(self, text: str | None) -> Start:
        """Return where the page starts.

        Raises:
            ValidationError: this list never handed out such a cursor.
        """
        if text is None:
            return Start({}, backwards=False)
        try:
            query = parse_qs(b64decode(text, validate=True).decode("ascii"), strict_parsing=True)
            (position,) = query.pop("p")
            backwards = query.pop("r", []) == ["1"]
            if query:
                raise ValueError(text)
            return Start({} if position == END else self.read_position(position), backwards)
        except (KeyError, ValueError, OverflowError):
            message = "This cursor is not one that this list handed out: begin again without it."
            raise ValidationError({self.cursor_query_param: ErrorDetail(message, code="invalid")}) from None

    def read_position(self, text: str) -> dict[str, Any]:
        """Return the value of each field of a position. Raises ValueError or OverflowError if the text is none."""
        texts = text.split(SEPARATOR)
        return {name: read(part) for (name, read), part in zip(self.fields.items(), texts, strict=True)}

    def get_page_size(self, request: Request) -> int:
        """Return how many entries a page has.

        Raises:
            ValidationError: it is no number from 1 to 200.
        """
        asked = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not re.fullmatch(r"[0-9]{1,3}", asked) or not 0 < int(asked) <= self.max_page_size:
            raise ValidationError({"page_size": f"A page has 1 to {self.max_page_size} entries."})
        return int(asked)


def rows_behind(position: Mapping[str, Any], comparison: str) -> Q:
    """Return what the rows behind a position have in common: the comparison of the fields as one row value.

    The first field is compared on its own as well, so that an index on it serves the query.
    """
    (name, value), *rest = position.items()
    if not rest:
        return Q(**{f"{name}__{comparison}": value})
    beyond = Q(**{f"{name}__{comparison}": value}) | rows_behind(dict(rest), comparison)
    return Q(**{f"{name}__{comparison}e": value}) & beyond


class NewestKeysFirst(ByCursor):
    """API keys, by the moment at which they were made."""

    fields: ClassVar = {"created_at": read_moment, "id": UUID}
