"""After a new key was put in front of ENCRYPTION_KEYS: every stored secret is encrypted anew, with the newest key."""

from collections.abc import Iterator
from uuid import UUID

from django.db import transaction

from merchants import audit
from merchants.audit import Who
from notifications import vault
from notifications.endpoints import lock
from notifications.models import WebhookEndpoint


def endpoint_ids() -> Iterator[UUID]:
    """All endpoints, deleted ones too: as long as one needs the old key, that cannot be thrown away."""
    return WebhookEndpoint.objects.order_by("id").values_list("pk", flat=True).iterator(chunk_size=1000)


@transaction.atomic(durable=True)
def reencrypt(endpoint_id: UUID) -> None:
    """Encrypt one endpoint's secrets anew. Its lock keeps a rotation of them from being undone.

    Raises:
        Locked: none of our keys opens them; nothing was done.
    """
    locked = lock(endpoint_id)
    locked.secret = vault.relock(locked.secret)
    locked.previous_secret = vault.relock(locked.previous_secret) if locked.previous_secret else ""
    locked.save(update_fields=["secret", "previous_secret"])


@transaction.atomic(durable=True)
def record(who: Who, *, done: int, stuck: int) -> None:
    """That it was done, and to how many: an interrupted run is done again, and then told."""
    audit.record(who, "webhook_secrets.reencrypted", after={"endpoints": done, "stuck": stuck})
