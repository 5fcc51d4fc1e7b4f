"""Django's system check of the translations: without compiled catalogues everybody would be written to in English."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.utils.translation import to_locale

MEND: Final = "Compile it: `pybabel compile -d locale -D django` (the Makefile and the image do)."


def check_catalogues(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> Iterable[CheckMessage]:
    """Each language but English, in which the texts are written, has its compiled catalogue, made of its source."""
    for language, _ in settings.LANGUAGES:
        if language != "en" and (fault := fault_of(language)):
            yield Error(fault, hint=MEND, id="notifications.E001")


def fault_of(language: str) -> str:
    """What is wrong with a language's catalogue, or nothing. Contents are compared: a clone's files have one time."""
    compiled = folder_of(language) / "django.mo"
    source = compiled.with_suffix(".po")
    if not compiled.is_file():
        return f"The catalogue of {language!r} is not compiled: {compiled} is missing."
    if source.is_file() and contents(source) != contents(compiled):
        return f"The catalogue of {language!r} is outdated: {compiled} does not say what {source} says."
    return ""


def folder_of(language: str) -> Path:
    """Where gettext looks for a language's catalogue."""
    return Path(settings.LOCALE_PATHS[0]) / to_locale(language) / "LC_MESSAGES"


def contents(file: Path) -> dict[Any, Any]:
    """Message -> translation. What is fuzzy or empty is never compiled."""
    with file.open("rb") as opened:
        catalogue: Catalog = read_mo(opened) if file.suffix == ".mo" else read_po(opened)
    return {message.id: message.string for message in catalogue if message.id and message.string and not message.fuzzy}
