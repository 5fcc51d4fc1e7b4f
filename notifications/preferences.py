"""Which events a merchant wants told by mail and SMS, and to whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

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
