"""What the payer or the merchant can do about an error, by its code. Data, for the API and the console."""

from typing import Final

#: For codes that nobody has met yet.
UNEXPECTED: Final = "Contact support with the payment's id."

ADVICE: Final[dict[str, str]] = {
    # decline codes
    "card_declined": "Ask the payer to use another payment method or to call their bank.",
    "insufficient_funds": "Ask the payer to use another payment method or to try again later.",
    "expired_card": "Ask the payer for a valid payment method.",
    # errors of ours
    "declined": "Ask the payer to use another payment method or to call their bank.",
    "gateway_unavailable": "Nothing was charged. The payment is tried again by itself.",
    "retries_exhausted": "Nothing was charged. Support can replay the payment, or you can create a new one.",
    "outcome_unknown": "Do not pay again: the gateway is being asked what became of the charge.",
}


def advice_for(error_code: str, decline_code: str) -> str:
    """The most specific advice there is."""
    return ADVICE.get(decline_code) or ADVICE.get(error_code) or UNEXPECTED
