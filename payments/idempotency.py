"""A request is carried out once under its key; whoever repeats it gets the first answer, byte for byte.

Follows draft-ietf-httpapi-idempotency-key-header. The key, its fingerprint and the answer are stored in the
transaction of the operation itself: a crash leaves either all of it or nothing.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from merchants.models import Merchant
from payments.errors import (
    IdempotencyKeyInvalid,
    IdempotencyKeyMismatch,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
)
from payments.models import IdempotencyKey, Payment

KEY: Final = re.compile(r"[A-Za-z0-9._:-]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered: status code, JSON body, where its object is, and whether this repeats."""

    status_code: int
    body: str
    location: str
    replayed: bool = False


def choose_key(header: str | None, field: str | None) -> str:
    """The request's idempotency key, from its header or from its body.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyKeyMismatch: see there.
    """
    if header is None and field is None:
        raise IdempotencyKeyMissing
    keys = {unquote(key) for key in (header, field) if key is not None}
    if len(keys) > 1:
        raise IdempotencyKeyMismatch
    key = keys.pop()
    if not KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def unquote(key: str) -> str:
    """The key without the double quotes of a structured-field string (RFC 8941), if it has them."""
    key = key.strip()
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def fingerprint(operation: str, values: Mapping[str, Any]) -> bytes:
    """SHA-256 of an operation's name and its validated values: equal for requests that mean the same."""
    canonical = json.dumps([operation, values], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).digest()


def claim(*, merchant: Merchant, key: str, print_: bytes, answer: Answer, payment: Payment) -> bool:
    """Store key and answer; False when the key is taken.

    A twin that is still in its transaction is waited for, up to the connection's `lock_timeout`.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO payments_idempotencykey"
            " (merchant_id, key, fingerprint, status_code, body, location, payment_id)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (merchant_id, key) DO NOTHING",
            [merchant.pk, key, print_, answer.status_code, answer.body, answer.location, payment.pk],
        )
        return bool(cursor.rowcount)


def replay(*, merchant: Merchant, key: str, print_: bytes) -> Answer | None:
    """The stored answer under a key, or None where the key is free.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.
    """
    stored = IdempotencyKey.objects.filter(merchant=merchant, key=key).first()
    if stored is None:
        return None
    if bytes(stored.fingerprint) != print_:
        raise IdempotencyKeyReused
    return Answer(stored.status_code, stored.body, stored.location, replayed=True)
