"""The orders of the lists of payments and of what has a time-ordered id."""

import re
from typing import ClassVar
from uuid import UUID

from merchants.pages import ByCursor


class NewestFirst(ByCursor):
    """Newest first, by id: ids are time-ordered."""

    fields: ClassVar = {"id": UUID}


def read_version(text: str) -> int:
    """Return the version; nine digits fit the column. Raises ValueError if the text is none."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


class OldestVersionFirst(ByCursor):
    """One payment's events in the order in which they happened."""

    fields: ClassVar = {"version": read_version}
    newest_first = False
