"""What went wrong with a payment, by its code. Data: the class of a decline, and plain words for those concerned.

The codes are the ones that card networks and gateways have in common (ISO 8583 response codes, as named by
https://docs.stripe.com/declines/codes); adapters translate their gateway's own into these where they can.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.utils.translation import gettext_noop as _


class DeclineClass(StrEnum):
    """What a new payment with the same method has to expect."""

    SOFT = "soft"  # may be approved later
    HARD = "hard"  # never with this payment method
    FRAUD = "fraud"  # never, and the payer is not told why
    PAYER = "payer"  # once the payer has corrected or confirmed something
    REQUEST = "request"  # once the merchant or the operator has corrected something


@dataclass(frozen=True, slots=True)
class Decline:
    """A decline code: `advice` is for the merchant, `support` for the one who answers the phone."""

    category: DeclineClass
    advice: str
    support: str


OTHER_METHOD: Final = _("Ask the payer to use another payment method or to call their bank.")
TELL_NO_REASON: Final = _("Ask the payer for another payment method, and do not tell them the reason.")

DECLINES: Final[dict[str, Decline]] = {
    "card_declined": Decline(DeclineClass.HARD, OTHER_METHOD, "The bank said no and gave no reason; only it knows."),
    "do_not_honor": Decline(DeclineClass.HARD, OTHER_METHOD, "The bank said no and gave no reason; only it knows."),
    "insufficient_funds": Decline(
        DeclineClass.SOFT,
        _("Ask the payer to use another payment method or to try again later."),
        "The account did not cover the amount at that moment.",
    ),
    "card_velocity_exceeded": Decline(
        DeclineClass.SOFT,
        _("Ask the payer to use another payment method or to try again tomorrow."),
        "The card's limit on amount or number of payments is used up for now.",
    ),
    "issuer_not_available": Decline(
        DeclineClass.SOFT, _("Create a new payment in a few minutes."), "The payer's bank could not be reached."
    ),
    "processing_error": Decline(
        DeclineClass.SOFT, _("Create a new payment in a few minutes."), "The gateway failed at it; nothing was charged."
    ),
    "try_again_later": Decline(
        DeclineClass.SOFT, _("Create a new payment in a few minutes."), "The bank asked to try again later."
    ),
    "expired_card": Decline(
        DeclineClass.PAYER, _("Ask the payer for a valid payment method."), "The card's date of expiry has passed."
    ),
    "incorrect_number": Decline(
        DeclineClass.PAYER, _("Ask the payer to enter the card anew."), "No card has the number that was entered."
    ),
    "incorrect_cvc": Decline(
        DeclineClass.PAYER, _("Ask the payer to enter the card anew."), "The card's security code was wrong."
    ),
    "authentication_required": Decline(
        DeclineClass.PAYER,
        _("Let the payer confirm the payment with their bank, then create a new one."),
        "The bank wants the payer to confirm, as with 3-D Secure.",
    ),
    "card_not_supported": Decline(DeclineClass.HARD, OTHER_METHOD, "The card cannot be used for this kind of payment."),
    "currency_not_supported": Decline(DeclineClass.HARD, OTHER_METHOD, "The card cannot be charged in this currency."),
    "restricted_card": Decline(DeclineClass.HARD, OTHER_METHOD, "The bank has restricted the card's use."),
    "lost_card": Decline(DeclineClass.FRAUD, TELL_NO_REASON, "The card was reported lost; do not say so."),
    "stolen_card": Decline(DeclineClass.FRAUD, TELL_NO_REASON, "The card was reported stolen; do not say so."),
    "pickup_card": Decline(DeclineClass.FRAUD, TELL_NO_REASON, "The bank wants the card withdrawn; do not say so."),
    "fraudulent": Decline(DeclineClass.FRAUD, TELL_NO_REASON, "The gateway suspects fraud; do not say so."),
    "payment_method_unknown": Decline(
        DeclineClass.REQUEST, _("Send a payment method that the gateway has issued."), "The gateway has no such token."
    ),
    "invalid_amount": Decline(
        DeclineClass.REQUEST, _("Send an amount that the gateway takes."), "The gateway does not take such an amount."
    ),
}

#: For codes that nobody has met yet.
UNEXPECTED: Final = _("Contact support with the payment's id.")

#: What our own operations write as a payment's error code -> what the merchant can do about it.
ERRORS: Final[dict[str, str]] = {
    "declined": OTHER_METHOD,
    "request_rejected": _("Nothing was charged. Correct the request and create a new payment."),
    "gateway_unavailable": _("Nothing was charged. The payment is tried again by itself."),
    "gateway_paused": _("Nothing was charged. The payment waits until its gateway may be called again."),
    "retries_exhausted": _("Nothing was charged. Support can replay the payment, or you can create a new one."),
    "expired": _("Nothing was charged. Support can replay the payment, or you can create a new one."),
    "outcome_unknown": _("Do not pay again: the gateway is being asked what became of the charge."),
    "late_success": _("The charge was made after all. Support decides whether it stands or is refunded."),
    "charged_twice": _("The gateway made two charges. Support refunds one of them."),
    "charge_already_adopted": _("Another payment accounts for the same charge. Support decides which of them stands."),
    "charge_already_refunded": _("The charge was refunded before the payment got it. Support decides what to do."),
}


def advice_for(error_code: str, decline_code: str) -> str:
    """The most specific advice for the merchant there is."""
    if decline_code in DECLINES:
        return DECLINES[decline_code].advice
    return ERRORS.get(error_code, UNEXPECTED)


def support_for(error_code: str, decline_code: str) -> str:
    """What happened, in plain words for support, and what they can advise."""
    advice = advice_for(error_code, decline_code)
    if decline_code in DECLINES:
        decline = DECLINES[decline_code]
        return f"{decline.support} ({decline.category} decline) {advice}"
    return advice
