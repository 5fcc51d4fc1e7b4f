"""Which events a merchant wants told by mail and SMS, and to whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from merchants import audit
from merchants.audit import SYSTEM, Who
from merchants.models import Merchant
from notifications.masking import mask
from notifications.models import Audience, Channel, Preference
from payments.events import EventType

#: A preference is about one channel and audience.
About = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """Which events; and of a merchant's own people, which addresses. A payer's are the payer's own."""

    event_types: frozenset[str] = frozenset()
    addresses: tuple[str, ...] = ()


#: What holds where a merchant has said nothing: payers of whom an address is known get a receipt.
DEFAULTS: Final[Mapping[About, Wish]] = {
    (Channel.EMAIL.value, Audience.PAYER.value): Wish(frozenset({EventType.SUCCEEDED.value})),
    (Channel.SMS.value, Audience.PAYER.value): Wish(frozenset({EventType.SUCCEEDED.value})),
    (Channel.EMAIL.value, Audience.MERCHANT.value): Wish(),
    (Channel.SMS.value, Audience.MERCHANT.value): Wish(),
}


def wishes_of(merchant_ids: Iterable[UUID]) -> dict[UUID, dict[About, Wish]]:
    """Every wish of each of these merchants, in one query."""
    ids = list(merchant_ids)
    wishes = {id_: dict(DEFAULTS) for id_ in ids}
    for row in Preference.objects.filter(merchant_id__in=ids):
        wishes[row.merchant_id][row.channel, row.audience] = Wish(frozenset(row.event_types), tuple(row.addresses))
    return wishes


@transaction.atomic(durable=True)
def change(
    *, merchant: Merchant, wishes: Mapping[About, Mapping[str, Any]], fields: Mapping[str, str], who: Who = SYSTEM
) -> Merchant:
    """Change what is named of these wishes, and the merchant's own `language` or `contact_email`; the rest stays."""
    locked = Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)  # two halves of a wish are one row
    present = wishes_of([locked.pk])[locked.pk]
    before = shown(locked, present)
    for name, value in fields.items():
        setattr(locked, name, value)
    locked.save(update_fields=list(fields))
    for about, changes in wishes.items():
        write(locked, about, replace(present[about], **changes))
    was, is_ = audit.difference(before, shown(locked, wishes_of([locked.pk])[locked.pk]))
    if is_:
        subject = f"merchant:{locked.pk}"
        audit.record(who, "notification_preferences.changed", subject=subject, merchant=locked, before=was, after=is_)
    return locked


def shown(merchant: Merchant, wishes: Mapping[About, Wish]) -> dict[str, Any]:
    """What an entry of the audit holds of all this: addresses are masked."""
    told: dict[str, Any] = {
        "language": merchant.language,
        "contact_email": mask(Channel.EMAIL, merchant.contact_email) if merchant.contact_email else "",
    }
    for (channel, audience), wish in wishes.items():
        told[f"{channel}.{audience}.event_types"] = sorted(wish.event_types)
        told[f"{channel}.{audience}.addresses"] = [mask(channel, address) for address in wish.addresses]
    return told


def write(merchant: Merchant, about: About, wish: Wish) -> None:
    """Keep one wish."""
    channel, audience = about
    kept = {"event_types": sorted(wish.event_types), "addresses": list(wish.addresses)}
    Preference.objects.update_or_create(merchant=merchant, channel=channel, audience=audience, defaults=kept)
