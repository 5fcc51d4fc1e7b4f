"""A message's arguments as a row keeps them. Ours are all named; what comes by position stands under `*`."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

BY_POSITION: Final = "*"


class Arguments(Protocol):
    """What a message and its proxy have in common."""

    @property
    def args(self) -> tuple[Any, ...]:
        """By position."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """By name."""


def payload_of(message: Arguments) -> dict[str, Any]:
    """The arguments in one document."""
    return {**message.kwargs, BY_POSITION: list(message.args)} if message.args else dict(message.kwargs)


def arguments_of(payload: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments out of the document: by position, and by name.

    Where no list stands under `*`, a stranger has named an argument so.
    """
    named = dict(payload)
    by_position = named.pop(BY_POSITION) if isinstance(named.get(BY_POSITION), list) else ()
    return tuple(by_position), named
