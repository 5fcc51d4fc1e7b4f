"""What an SMS says: always one segment, with the whole amount in it; names and order ids give way."""

from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from notifications.amounts import NO_BREAK, told_amount
from notifications.legible import legible
from notifications.notices import Notice
from notifications.sms import segments
from payments.events import EventType

#: Septets for the merchant's name, so that there is room for the order.
NAME_ROOM: Final = 40
#: A shorter beginning of a name or an order id tells nobody anything (septets or units).
LEAST: Final = 8
#: Longer ones are cut here already; a segment has 160 characters.
LONGEST: Final = 255

#: The sentence of each SMS. Together with the largest amount and TEST it leaves a name some room even in UCS-2.
SENTENCES: Final[dict[tuple[str, str], Promise]] = {
    ("payer", EventType.SUCCEEDED): _("%(merchant)s: payment of %(amount)s received."),
    ("payer", EventType.FAILED): _("%(merchant)s: payment of %(amount)s failed."),
    ("payer", EventType.CANCELED): _("%(merchant)s: payment of %(amount)s canceled."),
    ("payer", EventType.AUTHORIZED): _("%(merchant)s: %(amount)s reserved."),
    ("merchant", EventType.SUCCEEDED): _("%(merchant)s: payment of %(amount)s received."),
    ("merchant", EventType.FAILED): _("%(merchant)s: payment of %(amount)s failed."),
    ("merchant", EventType.CANCELED): _("%(merchant)s: payment of %(amount)s canceled."),
    ("merchant", EventType.AUTHORIZED): _("%(merchant)s: %(amount)s reserved."),
    ("merchant", EventType.UNKNOWN): _("%(merchant)s: outcome of %(amount)s unknown."),
    ("merchant", EventType.NEEDS_REVIEW): _("%(merchant)s: review payment of %(amount)s."),
}
#: What is added where there is room for it.
ADDITIONS: Final[dict[tuple[str, str], Promise]] = {
    ("payer", EventType.FAILED): _("You have not been charged."),
    ("merchant", EventType.UNKNOWN): _("Do not charge again: the gateway is being asked."),
}


def text_of(notice: Notice) -> str:
    """The SMS of an event of a payment, in the notice's language."""
    kind = (notice.audience, notice.type)
    with override(notice.language):
        text = with_name(test_mark(notice) + str(SENTENCES[kind]), notice)
        if kind in ADDITIONS:
            text = with_addition(text, str(ADDITIONS[kind]))
        if order_id := notice.data.get("order_id"):
            return with_value(text, gettext("Order %(id)s."), legible(order_id, LONGEST))
        return with_value(text, gettext("Payment %(id)s."), str(notice.data["id"]))


def test_mark(notice: Notice) -> str:
    """What stands before everything else where no money moves."""
    return "" if notice.mode == "live" else "TEST: "


def amount_in(notice: Notice) -> str:
    """The amount in the default alphabet: with its symbol if that has it, else with the code of its currency."""
    for by_code in (False, True):
        amount = told_amount(notice, by_code=by_code).replace(NO_BREAK, " ")
        if segments.is_gsm(amount):
            break
    return amount


def with_name(sentence: str, notice: Notice) -> str:
    """The sentence with the amount and as much of the merchant's name as there is room for."""
    amount = amount_in(notice)
    frame = sentence % {"merchant": "", "amount": amount}
    name = segments.written(legible(notice.merchant, LONGEST))
    room = NAME_ROOM if segments.is_gsm(name) else segments.UCS2_UNITS - segments.units_of(frame)
    if room < LEAST:
        name, room = segments.only_gsm(name), NAME_ROOM
    return sentence % {"merchant": segments.cut(name, room) or gettext("Payment"), "amount": amount}


def with_addition(text: str, addition: str) -> str:
    """The text and one more sentence, if both fit."""
    longer = f"{text} {addition}"
    return longer if segments.fits(longer) else text


def with_value(text: str, sentence: str, value: str) -> str:
    """The text and one more sentence about a value, which is cut where it must be, or without it."""
    for spelling in (segments.written(value), segments.only_gsm(value)):
        frame = f"{text} {sentence % {'id': ''}}"
        wide = not segments.is_gsm(frame + spelling)
        used = segments.units_of(frame) if wide else segments.length_of(frame)
        room = (segments.UCS2_UNITS if wide else segments.SEPTETS) - used
        if shown := segments.cut(spelling, room) if room >= LEAST else "":
            longer = f"{text} {sentence % {'id': shown}}"
            if segments.fits(longer):
                return longer
    return text
