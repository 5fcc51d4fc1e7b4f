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
    "late_success": "The charge was made after all. Support decides whether it stands or is refunded.",
    "charged_twice": "The gateway made two charges. Support refunds one of them.",
    "outcome_unknown": "Do not pay again: the gateway is being asked what became of the charge.",
}


#: What our own operations write as a payment's error code.
ERROR_CODES: Final = (
    "declined",
    "gateway_unavailable",
    "retries_exhausted",
    "outcome_unknown",
    "late_success",
    "charged_twice",
)


def advice_for(error_code: str, decline_code: str) -> str:
    """The most specific advice there is."""
    return ADVICE.get(decline_code) or ADVICE.get(error_code) or UNEXPECTED
