"""What a mail says: the words of each event from `templates/notifications/mail/words`, laid out as text and as HTML."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from babel import Locale
from babel.dates import format_datetime
from django.template import Context, Engine
from django.utils.functional import Promise
from django.utils.translation import gettext, override, to_locale
from django.utils.translation import gettext_lazy as _

from notifications.amounts import told_amount
from notifications.legible import legible, shorten
from notifications.masking import mask_url
from notifications.notices import Notice, OwnType

#: Characters: of a name or an order id inside a sentence, of a value in the list below, of a URL, and of a subject.
#: A phone shows about 40 of a subject, and a mail program wraps the rest.
NAME: Final = 60
VALUE: Final = 120
URL: Final = 300
SUBJECT: Final = 180
#: What a template breaks its lines with; spaces inside an amount are of another kind, and stay.
NUMBER: Final = re.compile("[0-9]+")
SPACES: Final = re.compile("[ \\t\\r\\n]+")

STATUSES: Final[dict[str, Promise]] = {
    "pending": _("pending"),
    "processing": _("processing"),
    "authorized": _("authorized"),
    "succeeded": _("succeeded"),
    "failed": _("failed"),
    "canceled": _("canceled"),
    "unknown": _("unknown"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail's subject, which is one line, and its two bodies."""

    subject: str
    text: str
    html: str


def write(notice: Notice) -> Letter:
    """The mail about a notice, in its language."""
    with override(notice.language):
        heading, *paragraphs = words_of(notice)
        context = {
            "language": notice.language,
            "is_test": notice.mode != "live",
            "heading": heading,
            "paragraphs": paragraphs,
            "facts": list(facts_of(notice)),
            "for_payer": notice.audience == "payer",
            "merchant": legible(notice.merchant, NAME),
            "replies": bool(notice.reply_to),
        }
        return Letter(
            subject=shorten(f"[TEST] {heading}" if context["is_test"] else heading, SUBJECT),
            text=render("letter.txt", context, autoescape=False).strip() + "\n",
            html=render("letter.html", context, autoescape=True),
        )


def words_of(notice: Notice) -> list[str]:
    """The paragraphs of an event's template; the first is the subject, and the heading."""
    name = f"words/{notice.audience}/{notice.type}.txt"
    rendered = render(name, values_of(notice), autoescape=False)
    return [paragraph for part in rendered.split("\n\n") if (paragraph := SPACES.sub(" ", part).strip(" \n"))]


def render(name: str, context: Mapping[str, Any], *, autoescape: bool) -> str:
    """One of our templates; `autoescape` for HTML alone."""
    template = Engine.get_default().get_template(f"notifications/mail/{name}")
    return template.render(Context(dict(context), autoescape=autoescape))


def values_of(notice: Notice) -> dict[str, Any]:
    """What an event's words may mention."""
    values: dict[str, Any] = {"merchant": legible(notice.merchant, NAME), "replies": bool(notice.reply_to)}
    if is_own(notice):
        return values
    error = notice.data.get("last_error") or {}
    return values | {
        "amount": told_amount(notice),
        "reference": legible(notice.data.get("order_id") or notice.data["id"], NAME),
        "declined": error.get("code") == "declined",
        "advice": translated(error.get("advice")),
    }


def facts_of(notice: Notice) -> Iterator[tuple[str, str]]:
    """The list below the words: a label and a value each; what is empty is left out."""
    if is_own(notice):
        facts = endpoint_facts(notice)
    else:
        facts = payer_facts(notice) if notice.audience == "payer" else merchant_facts(notice)
    for label, value in facts:
        if value:
            yield label, value


def payer_facts(notice: Notice) -> Iterator[tuple[str, str]]:
    """What a payer files, and what the merchant will ask for."""
    yield gettext("Amount"), told_amount(notice)
    yield gettext("Merchant"), legible(notice.merchant, VALUE)
    yield gettext("Order"), legible(notice.data.get("order_id"), VALUE)
    yield gettext("Time"), time_of(notice.occurred_at, notice.language)
    yield gettext("Payment number"), str(notice.data["id"])


def merchant_facts(notice: Notice) -> Iterator[tuple[str, str]]:
    """Where to look, for the merchant's own people."""
    data = notice.data
    error = data.get("last_error") or {}
    yield gettext("Amount"), told_amount(notice)
    yield gettext("Status"), str(STATUSES.get(data.get("status", ""), ""))
    yield (
        gettext("Error code"),
        legible(" / ".join(filter(None, [error.get("code"), error.get("decline_code")])), VALUE),
    )
    yield gettext("Order"), legible(data.get("order_id"), VALUE)
    yield gettext("Payer"), legible(data.get("user_id"), VALUE)
    yield gettext("Payment"), str(data["id"])
    yield gettext("Event"), str(notice.event_id)
    yield gettext("Time"), time_of(notice.occurred_at, notice.language)


def endpoint_facts(notice: Notice) -> Iterator[tuple[str, str]]:
    """Which endpoint, since when, and why."""
    yield gettext("Address"), legible(mask_url(notice.data["url"]), URL)
    if since := notice.data.get("since"):
        yield gettext("Failing since"), time_of(datetime.fromisoformat(since), notice.language)
    yield gettext("Reason"), legible(translated(notice.data.get("reason")), URL)
    yield gettext("Time"), time_of(notice.occurred_at, notice.language)


def time_of(moment: datetime, language: str) -> str:
    """Date and time in the language's own order, in UTC and saying so: nobody knows the reader's time zone."""
    return format_datetime(moment, "long", tzinfo=UTC, locale=Locale.parse(to_locale(language)))


def translated(text: str | None) -> str:
    """A sentence that was written in English, in the language of the moment where the catalogue has it.

    A number in it stands for itself: `it answered 500` is in the catalogue as `it answered %(number)s`.
    """
    if not text:
        return ""
    number, whole = NUMBER.search(text), gettext(text)
    if number is None or whole != text:
        return whole
    return gettext(NUMBER.sub("%(number)s", text, count=1)).replace("%(number)s", number[0])


def is_own(notice: Notice) -> bool:
    """Whether it is about this room itself, not about a payment."""
    return notice.type in set(OwnType)
