"""Nobody gets a mail that is half in another language: every text is translated, and the catalogue is compiled."""

import io
import re
import shutil
from pathlib import Path

import pytest
from babel.messages import extract
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils.translation import override
from django.utils.translation.template import templatize

from notifications import checks
from notifications.letters import write
from notifications.texts import text_of
from payments.declines import DECLINES, ERRORS, UNEXPECTED
from tests.notices import KINDS, PAYMENT_KINDS, notice

ROOT = Path(settings.BASE_DIR)
LANGUAGES = [code for code, _ in settings.LANGUAGES if code != "en"]
ROOMS = ["analytics", "config", "console", "merchants", "messaging", "notifications", "payments"]
KEYWORDS = dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop"))
PLACEHOLDER = re.compile(r"%\([a-z_]+\)s|%%")


def marked_in_code():
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            with file.open("rb") as opened:
                yield from (text for _, text, *_ in extract.extract("python", opened, keywords=KEYWORDS))


def marked_in_templates():
    """Django's own `makemessages` turns templates into what looks like code, too."""
    for folder in [ROOT / "templates", *(ROOT / room / "templates" for room in ROOMS)]:
        for file in (path for path in folder.rglob("*") if path.is_file()):
            code = io.BytesIO(templatize(file.read_text(), origin=str(file)).encode())
            yield from (text for _, text, *_ in extract.extract("javascript", code, keywords=KEYWORDS))


MARKED = sorted({*marked_in_code(), *marked_in_templates()})


@pytest.fixture(params=LANGUAGES)
def catalogue(request):
    with (checks.folder_of(request.param) / "django.po").open("rb") as opened:
        return read_po(opened)


def test_the_texts_are_found():
    """Or the tests below would be about nothing."""
    for text in ("Amount", "%(merchant)s: %(amount)s reserved.", UNEXPECTED, "This is a test: no money has moved."):
        assert text in MARKED


def test_no_text_is_without_a_translation(catalogue):
    known = {message.id: message for message in catalogue if message.id}
    missing = [text for text in MARKED if text not in known or not known[text].string or known[text].fuzzy]
    assert missing == [], "see docs/notifications.md, Languages"


def test_no_translation_is_of_a_text_that_is_gone(catalogue):
    assert [message.id for message in catalogue if message.id and message.id not in MARKED] == []


def test_no_translation_loses_or_invents_a_placeholder(catalogue):
    for message in catalogue:
        if message.id:
            assert sorted(set(PLACEHOLDER.findall(message.id))) == sorted(set(PLACEHOLDER.findall(message.string)))
            assert "%" not in PLACEHOLDER.sub("", message.string)


@pytest.mark.parametrize("advice", sorted({UNEXPECTED, *ERRORS.values(), *(it.advice for it in DECLINES.values())}))
def test_no_advice_is_told_in_english_only(advice, catalogue):
    assert catalogue[advice].string


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_no_german_mail_has_an_english_sentence(kind):
    told = {
        language: write(notice(kind[1], audience=kind[0], mode="test", language=language)) for language in ("en", "de")
    }
    sentences = {language: set(re.split(r"\n\n", letter.text)) for language, letter in told.items()}
    assert sentences["de"] & sentences["en"] == set()
    english = re.compile(r"\b(the|you|your|is|was|this|payment|of|has|been|not)\b", re.IGNORECASE)
    for text in (
        told["de"].subject,
        told["de"].text,
        re.sub(r"<style.*?</style>|<[^>]*>", "", told["de"].html, flags=re.DOTALL),
    ):
        assert english.findall(text) == []


@pytest.mark.parametrize("kind", PAYMENT_KINDS, ids="-".join)
def test_no_german_sms_is_the_english_one(kind):
    told = [text_of(notice(kind[1], audience=kind[0], language=language)) for language in ("en", "de")]
    assert told[0] != told[1]


def test_the_language_of_one_mail_does_not_leak_into_the_next():
    with override("en"):
        write(notice(language="de"))
        assert write(notice()).subject == "Shop has received your payment of €1,234.50"


# --- the system check


@pytest.fixture
def catalogues(tmp_path, settings):
    """A copy of the catalogues that a test may spoil; the folder of the German one."""
    shutil.copytree(settings.LOCALE_PATHS[0], tmp_path / "locale")
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    return tmp_path / "locale/de/LC_MESSAGES"


def faults():
    return [error.msg for error in checks.check_catalogues()]


def test_the_catalogues_are_compiled(catalogues):
    """If this fails: `make test` compiles them, a bare `pytest` does not."""
    assert faults() == []


def test_a_missing_catalogue_does_not_go_unnoticed(catalogues):
    (catalogues / "django.mo").unlink()
    (fault,) = faults()
    assert "not compiled" in fault
    assert all("pybabel compile" in error.hint for error in checks.check_catalogues())


def test_an_outdated_catalogue_does_not_go_unnoticed(catalogues):
    source = catalogues / "django.po"
    source.write_text(source.read_text().replace('"Betrag"', '"Summe"'))
    (fault,) = faults()
    assert "outdated" in fault


def test_an_image_without_the_sources_is_not_refused(catalogues):
    (catalogues / "django.po").unlink()
    assert faults() == []


def test_a_new_language_without_a_catalogue_does_not_go_unnoticed(catalogues, settings):
    settings.LANGUAGES = [*settings.LANGUAGES, ("pt-br", "Português")]
    (fault,) = faults()
    assert "pt_BR" in fault
