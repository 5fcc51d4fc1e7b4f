"""When a decision about money needs a second approver: above the setting `FOUR_EYES_ABOVE`.

What one person has decided alone within a day counts along with it, so that many small decisions are no way around.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.conf import settings
from django.db.models.functions import Now

from merchants.audit import Who
from merchants.models import AuditEntry

#: What one person decides alone within this time is one sum.
COUNTED_FOR: Final = timedelta(hours=24)


def needs_second_approver(action: str, sums: Mapping[str, str], who: Who) -> bool:
    """Return whether an action over these sums needs a second approver: strictly more than the limit of a currency."""
    if not sums or not settings.FOUR_EYES_ABOVE:
        return False
    alone = decided_alone(action, who)
    return any(_is_above(currency, Decimal(sum_) + alone.get(currency, 0)) for currency, sum_ in sums.items())


def decided_alone(action: str, who: Who) -> dict[str, Decimal]:
    """Return currency -> what a person decided within a day without a second approver, by the audit entries.

    They hold the `sums`, and the `approval` where there was one.
    """
    mine = AuditEntry.objects.filter(actor__in=[who.actor, f"user:{who.name}", f"shell:{who.name}"], action=action)
    total: dict[str, Decimal] = {}
    for after in mine.filter(at__gt=Now() - COUNTED_FOR).values_list("after", flat=True):
        if after and not after.get("approval"):
            for currency, sum_ in after["sums"].items():
                total[currency] = total.get(currency, Decimal()) + Decimal(sum_)
    return total


def _is_above(currency: str, sum_: Decimal) -> bool:
    """Return whether it is above the limit of its currency, or of all that are not named."""
    limit = settings.FOUR_EYES_ABOVE.get(currency, settings.FOUR_EYES_ABOVE.get("*"))
    return limit is not None and sum_ > Decimal(limit)
