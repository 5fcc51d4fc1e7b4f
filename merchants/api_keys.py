"""Making, finding and using API keys (`sk_test_…`, `sk_live_…`)."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from merchants.models import ApiKey, Merchant, Mode, Scope

#: `last_used_at` is for people deciding whether a key may go; a write per request would cost more than it tells.
LAST_USED_RESOLUTION: Final = timedelta(minutes=1)


def generate_key(mode: Mode) -> str:
    """A new secret key: `sk_<mode>_` and 256 random bits."""
    return f"sk_{mode.value}_{secrets.token_urlsafe(32)}"


def looks_like_key(credential: str) -> bool:
    """Whether a bearer credential is meant as an API key and not as a JWT."""
    return credential.startswith("sk_")


def digest(key: str) -> bytes:
    """What is stored in place of a key."""
    return hashlib.sha256(key.encode()).digest()


def register_key(
    key: str, *, merchant: Merchant, mode: Mode, name: str, scopes: Iterable[Scope] = tuple(Scope)
) -> ApiKey:
    """Store a key's digest; registering the same key again changes nothing."""
    record, _ = ApiKey.objects.get_or_create(
        digest=digest(key),
        defaults={
            "merchant": merchant,
            "mode": mode,
            "name": name,
            "prefix": key[:12],
            "scopes": [scope.value for scope in scopes],
        },
    )
    return record


def find_key(key: str, *, now: datetime) -> ApiKey | None:
    """The usable key record for this secret, with its merchant, or None."""
    usable = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now)) & Q(merchant__is_active=True)
    return ApiKey.objects.select_related("merchant").filter(usable, digest=digest(key)).first()


def note_use(record: ApiKey, *, now: datetime) -> None:
    """Remember that a key was used, to the minute."""
    if record.last_used_at is None or now - record.last_used_at >= LAST_USED_RESOLUTION:
        ApiKey.objects.filter(pk=record.pk).update(last_used_at=now)
