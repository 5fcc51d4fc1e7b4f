"""What a merchant does with its webhook endpoints. The caller checks addresses (`webhooks.targets.check_url`)."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from merchants import audit
from merchants.audit import SYSTEM, Who
from merchants.models import Merchant, Mode
from messaging import outbox
from messaging.database_errors import constraint_of
from notifications import vault
from notifications.errors import EndpointDeleted, EndpointDisabled, EndpointExists, TooManyEndpoints
from notifications.masking import mask_url
from notifications.models import Channel, Delivery, WebhookEndpoint
from notifications.notices import OwnType
from notifications.routes import topic_of
from notifications.webhooks.signing import new_secret
from payments.ids import uuid7

#: Registered endpoints of one merchant in one mode. Every event is sent to each of them.
MOST_ENDPOINTS: Final = 20
#: How long the secret of before is still used besides, after a rotation: time to deploy the new one.
ROTATION: Final = timedelta(hours=24)
#: What a change of an endpoint may change with it: it is enabled again, or nothing bad is known of its new URL.
CHANGED_WITH: Final = ("enabled", "disabled_at", "disabled_reason", "failing_since", "warned_at")


def endpoints_of(merchant: Merchant, mode: Mode) -> QuerySet[WebhookEndpoint]:
    """The endpoints that a caller may see."""
    return WebhookEndpoint.objects.filter(merchant=merchant, mode=mode, deleted_at=None)


@transaction.atomic(durable=True)
def create(
    *,
    merchant: Merchant,
    mode: Mode,
    url: str,
    kind: str = WebhookEndpoint.Kind.REGISTERED,
    event_types: Sequence[str] = (),
    description: str = "",
    who: Who = SYSTEM,
    reason: str = "",
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint, and its secret, which nobody is shown again.

    Raises:
        EndpointExists, TooManyEndpoints: see there; nothing was done.
    """
    if kind == WebhookEndpoint.Kind.REGISTERED:
        refuse_too_many(merchant, mode, url)
    secret = new_secret()
    endpoint = WebhookEndpoint(
        merchant=merchant,
        mode=mode,
        kind=kind,
        url=url,
        event_types=list(event_types),
        description=description,
        secret=vault.lock(secret),
    )
    save(endpoint, force_insert=True)
    record(endpoint, "created", who, reason, after=shown(endpoint))
    return endpoint, secret


def refuse_too_many(merchant: Merchant, mode: Mode, url: str) -> None:
    """Hold the limit, also against a twin. A URL that is there already is refused for that, by its index."""
    Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)
    registered = endpoints_of(merchant, mode).filter(kind=WebhookEndpoint.Kind.REGISTERED)
    if registered.exclude(url=url).count() >= MOST_ENDPOINTS:
        raise TooManyEndpoints


@transaction.atomic(durable=True)
def change(
    *,
    endpoint: WebhookEndpoint,
    now: datetime,
    enabled: bool | None = None,
    by: str = "its merchant",
    who: Who = SYSTEM,
    reason: str = "",
    **fields: Any,
) -> WebhookEndpoint:
    """Change `url`, `event_types` or `description`, and enable or disable. What waits for a disabled one is canceled,
    and what was not delivered will go to the new URL, of which nothing bad is known yet. `by`: who disables it, as
    merchants and support both read it.

    Raises:
        EndpointExists: another endpoint has the URL. EndpointDeleted: see there.
    """
    locked = lock_present(endpoint.pk)
    before = shown(locked)
    moves = fields.get("url", locked.url) != locked.url
    returns = enabled is True and not locked.enabled
    for name, value in fields.items():
        setattr(locked, name, value)
    if returns:
        locked.enabled, locked.disabled_at, locked.disabled_reason = True, None, ""
    if moves or returns:
        locked.failing_since = locked.warned_at = None
    save(locked, update_fields=[*fields, *CHANGED_WITH])
    if "url" in fields:
        redirect(locked, Delivery.objects.filter(endpoint=locked).exclude(state=Delivery.State.DELIVERED))
    if enabled is False and locked.enabled:
        disable(locked, reason=f"disabled by {by}", now=now)
    was, is_ = audit.difference(before, shown(locked))
    if is_:
        record(locked, deed(is_), who, reason, before=was, after=is_)
    return locked


@transaction.atomic(durable=True)
def delete(*, endpoint: WebhookEndpoint, now: datetime, who: Who = SYSTEM, reason: str = "") -> None:
    """Send nothing more to it. Its deliveries stay as the record."""
    locked = lock(endpoint.pk)
    if locked.deleted_at is not None:
        return
    record(locked, "deleted", who, reason, before=shown(locked))
    if locked.enabled:
        disable(locked, reason="deleted", now=now)
    locked.deleted_at = now
    locked.save(update_fields=["deleted_at"])


@transaction.atomic(durable=True)
def rotate(
    *, endpoint: WebhookEndpoint, now: datetime, who: Who = SYSTEM, reason: str = ""
) -> tuple[WebhookEndpoint, str]:
    """A new secret. For a day everything is signed with the one before as well.

    Raises:
        EndpointDeleted: see there.
    """
    locked = lock_present(endpoint.pk)
    secret = new_secret()
    locked.previous_secret, locked.previous_secret_until = locked.secret, now + ROTATION
    locked.secret = vault.lock(secret)
    locked.save(update_fields=["secret", "previous_secret", "previous_secret_until"])
    record(locked, "secret_rotated", who, reason, after={"previous_secret_until": locked.previous_secret_until})
    return locked, secret


@transaction.atomic(durable=True)
def send_test(
    *, endpoint: WebhookEndpoint, request_id: str, now: datetime, who: Who = SYSTEM, reason: str = ""
) -> Delivery:
    """Send an event that is about nothing but the endpoint.

    Raises:
        EndpointDisabled, EndpointDeleted: see there.
    """
    locked = lock_enabled(endpoint.pk)
    delivery = Delivery(
        merchant_id=locked.merchant_id,
        mode=locked.mode,
        event_id=uuid7(),
        event_type=OwnType.TEST,
        channel=Channel.WEBHOOK,
        recipient=locked.url,
        endpoint=locked,
        data={"endpoint": str(locked.pk), "url": locked.url},
        occurred_at=now,
        next_attempt_at=now,
        revive_at=now + timedelta(seconds=settings.REVIVE_AFTER),
        request_id=request_id,
    )
    delivery.save(force_insert=True)
    outbox.stage(topic_of(delivery.channel), {"ids": [str(delivery.pk)]}, request_id=request_id)
    record(locked, "test_sent", who, reason, after={"delivery": delivery.pk})
    return delivery


# --- the record


def shown(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """What an entry of the audit holds of an endpoint: never a secret, nor what may be one in its URL."""
    return {
        "url": mask_url(endpoint.url),
        "event_types": list(endpoint.event_types),
        "description": endpoint.description,
        "enabled": endpoint.enabled,
    }


def deed(changed: dict[str, Any]) -> str:
    """What a change is called: by the switch, if that was turned."""
    return {True: "enabled", False: "disabled"}.get(changed.get("enabled"), "changed")  # type: ignore[arg-type]


def record(endpoint: WebhookEndpoint, done: str, who: Who, reason: str = "", **states: Any) -> None:
    """The entry about an endpoint."""
    audit.record(
        who,
        f"webhook_endpoint.{done}",
        subject=f"webhook_endpoint:{endpoint.pk}",
        merchant=endpoint.merchant,
        reason=reason,
        **states,
    )


# --- for those who call it


def secrets_of(endpoint: WebhookEndpoint, *, now: datetime) -> list[str]:
    """What is signed with: the secret, and during a rotation the one before it."""
    tokens = [endpoint.secret]
    if endpoint.previous_secret_until and endpoint.previous_secret_until > now:
        tokens.append(endpoint.previous_secret)
    return [vault.unlock(token) for token in tokens]


def for_payments(wanted: Iterable[tuple[UUID, str, str]]) -> dict[tuple[UUID, str, str], WebhookEndpoint]:
    """The endpoints behind payments' own `webhook_url`s, by merchant, mode and origin; made where they are missing."""
    keys = sorted(set(wanted))
    if not keys:
        return {}
    missing = [
        WebhookEndpoint(
            merchant_id=merchant_id,
            mode=mode,
            url=origin,
            kind=WebhookEndpoint.Kind.PAYMENT,
            secret=vault.lock(new_secret()),
        )
        for merchant_id, mode, origin in sorted(set(keys) - set(payment_endpoints(keys)))
    ]
    WebhookEndpoint.objects.bulk_create(missing, ignore_conflicts=True)
    return payment_endpoints(keys)


def payment_endpoints(keys: Sequence[tuple[UUID, str, str]]) -> dict[tuple[UUID, str, str], WebhookEndpoint]:
    """Those that exist."""
    found = WebhookEndpoint.objects.filter(
        kind=WebhookEndpoint.Kind.PAYMENT,
        deleted_at=None,
        merchant_id__in={key[0] for key in keys},
        url__in={key[2] for key in keys},
    )
    return {(endpoint.merchant_id, endpoint.mode, endpoint.url): endpoint for endpoint in found}


def lock(endpoint_id: UUID) -> WebhookEndpoint:
    """The endpoint, locked. An endpoint is always locked before its deliveries."""
    return WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)


def lock_present(endpoint_id: UUID) -> WebhookEndpoint:
    """The endpoint, locked, for its merchant. Raises EndpointDeleted."""
    locked = lock(endpoint_id)
    if locked.deleted_at is not None:
        raise EndpointDeleted
    return locked


def lock_enabled(endpoint_id: UUID) -> WebhookEndpoint:
    """The endpoint, locked, for sending to it. Raises EndpointDeleted, EndpointDisabled."""
    locked = lock_present(endpoint_id)
    if not locked.enabled:
        raise EndpointDisabled
    return locked


def redirect(locked: WebhookEndpoint, deliveries: QuerySet[Delivery]) -> None:
    """Have deliveries go to where their endpoint is now; of one event the newest, and none if it is told there already.

    A payment's own `webhook_url` stays what it was.
    """
    if locked.kind == WebhookEndpoint.Kind.PAYMENT:
        return
    better = Q(recipient=locked.url) | Q(endpoint=locked, pk__gt=OuterRef("pk"))
    told = Delivery.objects.filter(better, channel=Channel.WEBHOOK, event_id=OuterRef("event_id"))
    deliveries.filter(~Exists(told)).update(recipient=locked.url)


def disable(locked: WebhookEndpoint, *, reason: str, now: datetime) -> None:
    """Send nothing more to a locked endpoint; what waits for it is canceled."""
    locked.enabled, locked.disabled_at, locked.disabled_reason = False, now, reason
    locked.save(update_fields=["enabled", "disabled_at", "disabled_reason"])
    cancel_waiting(locked, now=now)


def cancel_waiting(disabled: WebhookEndpoint, *, now: datetime) -> None:
    """End what waits for a disabled endpoint, now locked."""
    Delivery.objects.filter(endpoint=disabled, state=Delivery.State.PENDING).update(
        state=Delivery.State.CANCELED,
        note=f"the endpoint is disabled: {disabled.disabled_reason}",
        finished_at=now,
        next_attempt_at=None,
        lease_expires_at=None,
        revive_at=None,
    )


def save(endpoint: WebhookEndpoint, *, force_insert: bool = False, update_fields: list[str] | None = None) -> None:
    """Write it, unless another one has its URL."""
    try:
        with transaction.atomic():
            endpoint.save(force_insert=force_insert, update_fields=update_fields)
    except IntegrityError as error:
        if constraint_of(error) == "one_endpoint_per_url":
            raise EndpointExists from None
        raise
