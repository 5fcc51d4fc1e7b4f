"""What is imported when it happens first: what only the web process does costs the others no memory."""

from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string


def later(path: str) -> Callable[..., None]:
    """The signal's receiver of that name, by dots."""

    def receive(**told: Any) -> None:
        import_string(path)(**told)

    return receive
