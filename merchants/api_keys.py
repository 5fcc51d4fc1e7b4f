"""Making, finding, using and revoking API keys (`sk_test_…`, `sk_live_…`)."""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from merchants import audit, rows
from merchants.audit import Who
from merchants.models import ApiKey, Merchant, Mode, Scope
from merchants.refusals import TooManyKeys
from merchants.sharing import Sharing

#: `last_used_at` is for people deciding whether a key may go; a write per request would cost more than it tells.
LAST_USED_RESOLUTION: Final = timedelta(minutes=1)
#: Keys of one merchant that work in one mode: more than any set of services needs, and a list that people can read.
MOST: Final = 50
#: How much of a key is kept to tell it from others: `sk_test_` and 8 of its 43 random characters.
PREFIX_LENGTH: Final = 16


def validate_name(name: str) -> None:
    """Refuse what cannot be seen, or looks like another name: people decide by it which key goes.

    Raises:
        ValidationError: it has such characters.
    """
    if not name.isprintable():
        raise ValidationError("A name has characters that can be seen, in one line.", code="unprintable")


def validate_expiry(moment: datetime) -> None:
    """Refuse an end that has passed: such a key would never have worked.

    Raises:
        ValidationError: it has.
    """
    if moment <= timezone.now():
        raise ValidationError("This is in the past: a key expires in the future, or never.", code="past")


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
    key: str,
    *,
    merchant: Merchant,
    mode: Mode,
    name: str,
    scopes: Iterable[Scope] = tuple(Scope),
    expires_at: datetime | None = None,
) -> ApiKey:
    """Store a key's digest; registering the same key again changes nothing."""
    record, _ = ApiKey.objects.get_or_create(
        digest=digest(key),
        defaults={
            "merchant": merchant,
            "mode": mode,
            "name": name,
            "prefix": key[:PREFIX_LENGTH],
            "scopes": [scope.value for scope in scopes],
            "expires_at": expires_at,
        },
    )
    return record


@transaction.atomic(durable=True)
def create(
    *,
    merchant: Merchant,
    mode: Mode,
    name: str,
    scopes: Iterable[Scope],
    expires_at: datetime | None,
    who: Who,
    now: datetime,
    reason: str = "",
) -> tuple[ApiKey, str]:
    """A new key: its record, and the key itself, which nobody can ever see again.

    Raises:
        TooManyKeys: the merchant has as many as it may.
    """
    Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)  # twins are counted one after the other
    if ApiKey.objects.filter(usable(now), merchant=merchant, mode=mode).count() >= MOST:
        raise TooManyKeys
    key = generate_key(mode)
    record = register_key(key, merchant=merchant, mode=mode, name=name, scopes=scopes, expires_at=expires_at)
    after = {"name": name, "mode": mode.value, "prefix": record.prefix, "scopes": record.scopes}
    audit.record(
        who,
        "api_key.created",
        subject=f"api_key:{record.pk}",
        merchant=merchant,
        reason=reason,
        after={**after, "expires_at": expires_at},
    )
    return record, key


@transaction.atomic(durable=True)
def revoke(*, key: ApiKey, who: Who, now: datetime, reason: str = "") -> ApiKey:
    """From now on nobody gets in with it. One that was revoked before stays as it is."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now):
        audit.record(
            who,
            "api_key.revoked",
            subject=f"api_key:{key.pk}",
            merchant=key.merchant,
            reason=reason,
            before={"name": key.name, "prefix": key.prefix, "last_used_at": key.last_used_at},
        )
    key.refresh_from_db()
    return key


def keys_of(merchant: Merchant, mode: Mode) -> QuerySet[ApiKey]:
    """A merchant's keys of one mode, revoked ones as well."""
    return ApiKey.objects.select_related("merchant").filter(merchant=merchant, mode=mode)


def usable(now: datetime) -> Q:
    """Which keys work, as far as it depends on them."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


def find_key(key: str, *, now: datetime) -> ApiKey | None:
    """The usable key record for this secret, with its merchant, or None. Read anew for each request, together with the
    others that wait.
    """
    return next(iter(waiting.ask((digest(key), now))), None)


#: As `usable` says.
FIND: Final = f"""
    SELECT key.digest, {rows.columns(ApiKey, "key")}, {rows.columns(Merchant, "merchant")}
    FROM merchants_apikey AS key
    JOIN merchants_merchant AS merchant ON merchant.id = key.merchant_id AND merchant.is_active
    WHERE key.digest = ANY(%(digests)s)
        AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > %(now)s)
"""  # noqa: S608  # nobody but the models names columns  # nosec B608


def find_together(asked: Sequence[tuple[bytes, datetime]]) -> list[list[ApiKey]]:
    """Of each digest the usable record, if there is one, in one query. No two requests have the same objects."""
    digests = [digest for digest, _ in asked]
    found = rows.select(FIND, {"digests": digests, "now": max(now for _, now in asked)})
    known = {bytes(digest): row for digest, *row in found}
    return [[record_in(known[digest])] if digest in known else [] for digest in digests]


def record_in(row: Sequence[Any]) -> ApiKey:
    """A key with its merchant."""
    values = iter(row)
    record = rows.read(ApiKey, values)
    record.merchant = rows.read(Merchant, values)
    return record


#: The requests of this process that look for their keys at the same time.
waiting: Final[Sharing[tuple[bytes, datetime], list[ApiKey]]] = Sharing(
    find_together, lambda asked: find_together([asked])[0]
)


def note_use(record: ApiKey, *, now: datetime) -> None:
    """Remember that a key was used, to the minute: of all requests of one minute, one writes."""
    note_uses([record], now=now)


#: A key that somebody else is writing to is left for its next use, so that nobody waits for it.
NOTE: Final = """
    UPDATE merchants_apikey SET last_used_at = %(now)s
    WHERE id IN (
        SELECT id FROM merchants_apikey
        WHERE id = ANY(%(ids)s) AND (last_used_at IS NULL OR last_used_at <= %(long_ago)s)
        FOR NO KEY UPDATE SKIP LOCKED
    )
"""


def note_uses(records: Iterable[ApiKey], *, now: datetime) -> None:
    """As `note_use`, of many keys by one statement."""
    long_ago = now - LAST_USED_RESOLUTION
    due = [record.pk for record in records if record.last_used_at is None or record.last_used_at <= long_ago]
    if due:
        with connection.cursor() as cursor:
            cursor.execute(NOTE, {"now": now, "ids": due, "long_ago": long_ago})
