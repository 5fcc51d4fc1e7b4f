"""Who is told of an event: payers and merchants' people by mail and SMS, endpoints by webhook."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import Q

from merchants.models import Merchant
from notifications import endpoints
from notifications.models import Audience, Channel, Contact, WebhookEndpoint
from notifications.preferences import About, Wish, wishes_of
from notifications.webhooks.targets import TargetRefused, origin_of
from payments.reads import Happening

log = structlog.get_logger(__name__)

#: A merchant in one of its modes.
Account = tuple[UUID, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One who is told, by one channel."""

    channel: str
    audience: str
    address: str
    language: str = ""
    endpoint: WebhookEndpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Whatever must be known to say who is told of some events: a handful of queries, however many events."""

    merchants: dict[UUID, Merchant]
    wishes: dict[UUID, dict[About, Wish]]
    contacts: dict[tuple[UUID, str, str], Contact]
    registered: dict[Account, list[WebhookEndpoint]] = field(default_factory=dict)
    for_payments: dict[tuple[UUID, str, str], WebhookEndpoint] = field(default_factory=dict)

    @classmethod
    def of(cls, happenings: Sequence[Happening]) -> "Book":
        """What these events need."""
        ids = {happening.merchant_id for happening in happenings}
        wishes = wishes_of(ids)
        registered: dict[Account, list[WebhookEndpoint]] = {}
        kind = WebhookEndpoint.Kind.REGISTERED
        for endpoint in WebhookEndpoint.objects.filter(merchant_id__in=ids, kind=kind, deleted_at=None):
            registered.setdefault((endpoint.merchant_id, endpoint.mode), []).append(endpoint)
        origins = {
            (happening.merchant_id, happening.mode, origin)
            for happening in happenings
            if (origin := origin_behind(happening))
        }
        return cls(
            merchants=Merchant.objects.in_bulk(ids),
            wishes=wishes,
            contacts=contacts_of([it for it in happenings if is_for_payers(it, wishes[it.merchant_id])]),
            registered=registered,
            for_payments=endpoints.for_payments(origins),
        )

    def recipients(self, happening: Happening) -> Iterator[Recipient]:
        """All who are told of an event."""
        for channel in channels_to_people():
            yield from self.by(channel, happening)
        yield from self.endpoints(happening)

    def by(self, channel: Channel, happening: Happening) -> Iterator[Recipient]:
        """Those who are told by mail or SMS: the payer first, of whom most is known."""
        merchant, wishes = self.merchants[happening.merchant_id], self.wishes[happening.merchant_id]
        if happening.type in wishes[channel, Audience.PAYER].event_types:
            yield from self.payer(channel, happening, merchant)
        own = wishes[channel, Audience.MERCHANT]
        if happening.type in own.event_types:
            for address in own.addresses:
                yield Recipient(
                    channel=channel, audience=Audience.MERCHANT, address=address, language=merchant.language
                )

    def payer(self, channel: Channel, happening: Happening, merchant: Merchant) -> Iterator[Recipient]:
        """The payer: at the address that came with the payment, else at the one known of the user."""
        contact = self.contacts.get((happening.merchant_id, happening.mode, happening.user_id))
        given, known = {
            Channel.EMAIL: (happening.receipt_email, contact and contact.email),
            Channel.SMS: (happening.receipt_phone, contact and contact.phone),
        }[channel]
        if address := given or known:
            language = (contact and contact.language) or merchant.language
            yield Recipient(channel=channel, audience=Audience.PAYER, address=address, language=language)

    def endpoints(self, happening: Happening) -> Iterator[Recipient]:
        """The endpoints that want the event, and the payment's own address, each once."""
        registered = self.registered.get((happening.merchant_id, happening.mode), ())
        for endpoint in registered:
            if wants(endpoint, happening):
                yield to_endpoint(endpoint, endpoint.url)
        url, origin = happening.webhook_url, origin_behind(happening)
        if origin and all(endpoint.url != url for endpoint in registered):
            own = self.for_payments[happening.merchant_id, happening.mode, origin]
            if wants(own, happening):
                yield to_endpoint(own, url)


def origin_behind(happening: Happening) -> str:
    """The origin of the payment's own address; empty where it has none, or one of before addresses were checked."""
    try:
        return origin_of(happening.webhook_url) if happening.webhook_url else ""
    except TargetRefused as refused:
        log.warning("webhook_url_cannot_be_called", payment_id=str(happening.payment_id), code=refused.code)
        return ""


def channels_to_people() -> list[Channel]:
    """Those that are switched on."""
    on = {Channel.EMAIL: settings.EMAIL_ON, Channel.SMS: settings.SMS_BACKEND}
    return [channel for channel, is_on in on.items() if is_on]


def is_for_payers(happening: Happening, wishes: dict[About, Wish]) -> bool:
    """Whether its payer is told by any way, and so has to be looked up."""
    ways = (wishes[channel, Audience.PAYER] for channel in channels_to_people())
    return bool(happening.user_id) and any(happening.type in way.event_types for way in ways)


def contacts_of(happenings: Sequence[Happening]) -> dict[tuple[UUID, str, str], Contact]:
    """What is known of the payers."""
    if not happenings:
        return {}
    wanted = Q(
        merchant_id__in={happening.merchant_id for happening in happenings},
        user_id__in={happening.user_id for happening in happenings},
    )
    found = Contact.objects.filter(wanted)
    return {(contact.merchant_id, contact.mode, contact.user_id): contact for contact in found}


def wants(endpoint: WebhookEndpoint, happening: Happening) -> bool:
    """Whether an endpoint has asked for events of this type; one that named none wants all."""
    return not endpoint.event_types or happening.type in endpoint.event_types


def to_endpoint(endpoint: WebhookEndpoint, url: str) -> Recipient:
    """The recipient that an endpoint is."""
    return Recipient(channel=Channel.WEBHOOK, audience=Audience.MERCHANT, address=url, endpoint=endpoint)
