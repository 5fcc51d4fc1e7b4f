"""Pages by cursor: stable while rows arrive, and as fast on the last page as on the first."""

import re
from datetime import datetime

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request


class ByCursor(CursorPagination):
    """Pages of a list; what its rows are ordered by is said below."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    invalid_cursor_message = "This cursor is not one of ours: begin again without it."

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The position to go on from.

        Raises:
            NotFound: we never handed out such a cursor.
        """
        cursor: Cursor | None = super().decode_cursor(request)
        if cursor is not None and not self.is_position(str(cursor.position)):
            raise NotFound(self.invalid_cursor_message)
        return cursor

    def is_position(self, text: str) -> bool:
        """Whether rows can stand at it."""
        raise NotImplementedError  # each subclass says

    def get_page_size(self, request: Request) -> int:
        """How many entries a page has.

        Raises:
            ValidationError: it is no number from 1 to 200.
        """
        asked = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not re.fullmatch(r"[0-9]{1,3}", asked) or not 0 < int(asked) <= self.max_page_size:
            raise ValidationError({"page_size": f"A page has 1 to {self.max_page_size} entries."})
        return int(asked)


class ByMoment(ByCursor):
    """By a moment that each row has, for rows whose ids are random."""

    def is_position(self, text: str) -> bool:
        """Whether it is a moment."""
        try:
            return datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            return False


class NewestKeysFirst(ByMoment):
    """API keys, by the moment at which they were made."""

    ordering = ("-created_at", "-id")
