"""Pages of dead letters by cursor."""

import re

from payments.pages import NewestFirst


class NewestLettersFirst(NewestFirst):
    """Newest first, by id: a number that grows."""

    def is_position(self, text: str) -> bool:
        """Whether it is an id; eighteen digits fit the column."""
        return re.fullmatch(r"[0-9]{1,18}", text) is not None
