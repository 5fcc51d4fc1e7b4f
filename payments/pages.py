"""Pages by cursor: stable while rows arrive, and as fast on the last page as on the first."""

import re
from uuid import UUID

from merchants.pages import ByCursor


class NewestFirst(ByCursor):
    """Newest first, by id: ids are time-ordered."""

    ordering = "-id"

    def is_position(self, text: str) -> bool:
        """Whether it is an id."""
        try:
            UUID(text)
        except ValueError:
            return False
        return True


class OldestVersionFirst(NewestFirst):
    """One payment's events in the order in which they happened."""

    ordering = "version"

    def is_position(self, text: str) -> bool:
        """Whether it is a version; nine digits are more than any payment reaches and fit the column."""
        return re.fullmatch(r"[0-9]{1,9}", text) is not None
