"""When two spellings are one person's name."""

import unicodedata


def folded(name: str) -> str:
    """A name without what only looks different."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
