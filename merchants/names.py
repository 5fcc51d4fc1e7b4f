"""When two spellings are one person's name."""

import unicodedata
from typing import Final

#: The longest user name. To normalize text takes time in proportion to the square of its length, where it is made of
#: combining characters: a second for 64 kB.
MAX_NAME_CHARACTERS: Final = 150


def folded(name: str) -> str:
    """A name without what only looks different. Only for names of at most `MAX_NAME_CHARACTERS`."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
