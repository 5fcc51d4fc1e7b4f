"""What a merchant's ceilings look like: {"EUR": "5000.00"}, the highest amount of one payment by currency."""

import re
from typing import Any, Final

from django.core.exceptions import ValidationError

CURRENCY: Final = re.compile(r"[A-Z]{3}")
#: Text, so that no float comes near an amount.
AMOUNT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,4})?")


def validate_ceilings(value: Any) -> None:
    """Refuses whatever could not be compared with an amount later."""
    well_formed = isinstance(value, dict) and all(
        CURRENCY.fullmatch(currency) and isinstance(amount, str) and AMOUNT.fullmatch(amount)
        for currency, amount in value.items()
    )
    if not well_formed:
        raise ValidationError(
            'Write amounts in quotes by currency, such as {"EUR": "5000.00", "JPY": "800000"}; {} for none.',
            code="ceilings",
        )
