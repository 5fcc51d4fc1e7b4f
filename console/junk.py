"""What no form of the console sends, and what Django's admin would answer with a 500."""

from typing import Any, Final

from django.apps import apps
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.http import HttpRequest

LIST: Final = "_changelist"


def has_nul(request: HttpRequest) -> bool:
    """Whether a NUL was posted: hidden fields and choices of actions are checked by no form."""
    return any("\0" in text for name, texts in request.POST.lists() for text in (name, *map(str, texts)))


def names_nothing(request: HttpRequest, page: str) -> bool:
    """Whether an action is posted to a list for what cannot be the key of any row."""
    chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
    if not chosen or not page.endswith(LIST):
        return False
    app, _, model = page.removesuffix(LIST).partition("_")
    key: Any = apps.get_model(app, model)._meta.pk  # noqa: SLF001  # its public name in the documentation
    return not all(fits(key, text) for text in chosen)


def fits(key: Any, text: str) -> bool:
    """Whether the column can hold it."""
    try:
        key.clean(text, None)
    except ValidationError:
        return False
    return True
