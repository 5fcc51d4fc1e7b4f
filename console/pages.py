"""Pages of dead letters by cursor."""

from typing import ClassVar

from merchants.pages import ByCursor, read_number


class NewestLettersFirst(ByCursor):
    """Newest first, by id: a number that grows."""

    fields: ClassVar = {"id": read_number}
