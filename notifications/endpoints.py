"""What a merchant does with its webhook endpoints. The caller checks addresses (`webhooks.targets.check_url`)."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from psycopg import errors as postgres

from merchants.models import Merchant, Mode
from messaging import outbox
from notifications import vault
from notifications.errors import EndpointDisabled, EndpointExists, TooManyEndpoints
from notifications.models import Channel, Delivery, WebhookEndpoint
from notifications.notices import OwnType
from notifications.webhooks.signing import new_secret
from payments.ids import uuid7

#: Endpoints of one merchant in one mode. Every event is sent to each of them.
MOST_ENDPOINTS: Final = 20
#: How long the secret of before is still used besides, after a rotation: time to deploy the new one.
ROTATION: Final = timedelta(hours=24)


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
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint, and its secret, which nobody is shown again.

    Raises:
        EndpointExists, TooManyEndpoints: see there; nothing was done.
    """
    Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)  # the limit holds against a twin
    if endpoints_of(merchant, mode).filter(kind=kind).count() >= MOST_ENDPOINTS:
        raise TooManyEndpoints
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
    return endpoint, secret


@transaction.atomic(durable=True)
def change(*, endpoint: WebhookEndpoint, now: datetime, enabled: bool | None = None, **fields: Any) -> WebhookEndpoint:
    """Change `url`, `event_types` or `description`, and enable or disable. What waits for a disabled one is canceled.

    Raises:
        EndpointExists: another endpoint has the URL.
    """
    locked = lock(endpoint.pk)
    for name, value in fields.items():
        setattr(locked, name, value)
    if enabled is True and not locked.enabled:
        locked.enabled, locked.disabled_at, locked.disabled_reason = True, None, ""
        locked.failing_since = locked.warned_at = None
    save(locked)
    if enabled is False and locked.enabled:
        disable(locked, reason="disabled by you", now=now)
    return locked


@transaction.atomic(durable=True)
def delete(*, endpoint: WebhookEndpoint, now: datetime) -> None:
    """Send nothing more to it. Its deliveries stay as the record."""
    locked = lock(endpoint.pk)
    if locked.enabled:
        disable(locked, reason="deleted", now=now)
    locked.deleted_at = now
    locked.save(update_fields=["deleted_at"])


@transaction.atomic(durable=True)
def rotate(*, endpoint: WebhookEndpoint, now: datetime) -> tuple[WebhookEndpoint, str]:
    """A new secret. For a day everything is signed with the one before as well."""
    locked = lock(endpoint.pk)
    secret = new_secret()
    locked.previous_secret, locked.previous_secret_until = locked.secret, now + ROTATION
    locked.secret = vault.lock(secret)
    locked.save(update_fields=["secret", "previous_secret", "previous_secret_until"])
    return locked, secret


@transaction.atomic(durable=True)
def send_test(*, endpoint: WebhookEndpoint, request_id: str, now: datetime) -> Delivery:
    """Send an event that is about nothing but the endpoint.

    Raises:
        EndpointDisabled: see there.
    """
    if not lock(endpoint.pk).enabled:
        raise EndpointDisabled
    delivery = Delivery(
        merchant_id=endpoint.merchant_id,
        mode=endpoint.mode,
        event_id=uuid7(),
        event_type=OwnType.TEST,
        channel=Channel.WEBHOOK,
        recipient=endpoint.url,
        endpoint=endpoint,
        data={"endpoint": str(endpoint.pk), "url": endpoint.url},
        occurred_at=now,
        next_attempt_at=now,
        revive_at=now + timedelta(minutes=1),
        request_id=request_id,
    )
    delivery.save(force_insert=True)
    outbox.stage("delivery.webhook", {"ids": [str(delivery.pk)]}, request_id=request_id)
    return delivery


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
        for merchant_id, mode, origin in set(keys) - set(payment_endpoints(keys))
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


def disable(locked: WebhookEndpoint, *, reason: str, now: datetime) -> None:
    """Send nothing more to a locked endpoint; what waits for it is canceled."""
    locked.enabled, locked.disabled_at, locked.disabled_reason = False, now, reason
    locked.save(update_fields=["enabled", "disabled_at", "disabled_reason"])
    Delivery.objects.filter(endpoint=locked, state=Delivery.State.PENDING).update(
        state=Delivery.State.CANCELED,
        note=f"the endpoint is disabled: {reason}",
        finished_at=now,
        next_attempt_at=None,
        lease_expires_at=None,
        revive_at=None,
    )


def save(endpoint: WebhookEndpoint, *, force_insert: bool = False) -> None:
    """Write it, unless another one has its URL."""
    try:
        with transaction.atomic():
            endpoint.save(force_insert=force_insert)
    except IntegrityError as error:
        cause = error.__cause__
        if isinstance(cause, postgres.UniqueViolation) and cause.diag.constraint_name == "one_endpoint_per_url":
            raise EndpointExists from None
        raise
