"""A request is carried out once under its key; whoever repeats it gets the first answer, byte for byte.

Follows draft-ietf-httpapi-idempotency-key-header. The key, its fingerprint and the answer are stored in the
transaction of the operation itself: a crash leaves either all of it or nothing.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection

from merchants.models import Merchant
from payments.errors import (
    IdempotencyKeyInvalid,
    IdempotencyKeyMismatch,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
)
from payments.models import IdempotencyKey, Payment
from payments.states import FINAL

#: How long a key and its answer are kept at least: longer than any client goes on retrying.
KEPT_FOR: Final = timedelta(days=30)
#: Printable ASCII without spaces. Double quote and backslash belong to the quoted form, and a comma joins two headers
#: of the same name: a key with one of them could be read in two ways.
KEY: Final = re.compile(r"[!#-+\--\[\]-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered: status code, JSON body, where its object is, and whether this repeats."""

    status_code: int
    body: str
    location: str
    replayed: bool = False


def key_of(body: Any, *, header: str | None = None) -> str:
    """A request's idempotency key: from its header `Idempotency-Key`, or the field `idempotency_key` of its body.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyKeyMismatch: see there.
    """
    given = body.get("idempotency_key") if isinstance(body, dict) else None
    if given is not None and not isinstance(given, str):
        raise IdempotencyKeyInvalid
    return choose_key(header, given)


def key_of_item(item: Any) -> str:
    """Return the idempotency key of a batch's item or of a message, which has no header of its own.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid: the error points at the field.
    """
    try:
        return key_of(item)
    except IdempotencyKeyMissing:
        raise IdempotencyKeyMissing(in_field=True) from None
    except IdempotencyKeyInvalid:
        raise IdempotencyKeyInvalid(in_field=True) from None


def choose_key(header: str | None, field: str | None) -> str:
    """The request's idempotency key, from its header or from its body.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid, IdempotencyKeyMismatch: see there.
    """
    if header is None and field is None:
        raise IdempotencyKeyMissing
    header = None if header is None else header.strip()  # HTTP allows white space around a value, JSON keeps it
    keys = {unquote(key) for key in (header, field) if key is not None}
    if len(keys) > 1:
        raise IdempotencyKeyMismatch
    key = keys.pop()
    if not KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def unquote(key: str) -> str:
    """The key without the double quotes of a structured-field string (RFC 8941), if it has them."""
    return key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key


def fingerprint(operation: str, values: Mapping[str, Any]) -> bytes:
    """SHA-256 of an operation's name and its validated values: equal for requests that mean the same."""
    canonical = json.dumps([operation, values], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).digest()


def gateway_key_base(*, merchant_id: UUID, mode: str, key: str) -> str:
    """Return what the gateway's idempotency keys for a request's payment begin with.

    It depends on the request alone. When a failover or a restore has lost the commit that accepted a payment, the
    client repeats its request, which makes a new payment with a new id. That payment asks the gateway under the same
    key as the lost one, so that the gateway recognises the charge instead of making a second one.

    Stored keys are kept for `KEPT_FOR`, longer than any gateway recognises one of ours: a key that is used again
    after that time is a new one for both.
    """
    request = json.dumps([str(merchant_id), mode, key], separators=(",", ":"))
    return f"pay_{hashlib.sha256(request.encode()).hexdigest()[:40]}"


#: The first request under a key stores its answer; every other one finds it, counted, in the same round trip.
CLAIM: Final = """
    INSERT INTO payments_idempotencykey AS stored
        (merchant_id, key, fingerprint, status_code, body, location, payment_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (merchant_id, key) DO UPDATE SET replays = stored.replays + 1
    RETURNING replays > 0, fingerprint, status_code, body, location
"""


def claim_or_replay(
    *, merchant: Merchant, key: str, print_: bytes, answer: Answer, payment: Payment | None = None
) -> Answer:
    """Store key and answer, for this payment if it is about one, or find the answer that is stored already.

    Who learns the answer only from its operation claims with an empty one, and calls `complete` in the same
    transaction: twins wait for its end.

    A twin that is still in its transaction is waited for, up to the connection's `lock_timeout`. The count of
    replays stands with the key, not with the payment: a worker may hold that one's lock.

    Raises:
        IdempotencyKeyReused: the key belongs to another request; the transaction must be rolled back.
    """
    about = None if payment is None else payment.pk
    ours: list[Any] = [merchant.pk, key, print_, answer.status_code, answer.body, answer.location, about]
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, ours)
        replayed, stored_print, status_code, body, location = cursor.fetchone()
    require_same(print_, stored_print)
    return Answer(status_code, body, location, replayed=replayed)


def require_same(print_: bytes, stored_print: bytes) -> None:
    """Raises IdempotencyKeyReused if a key belongs to another request than this."""
    if bytes(stored_print) != print_:
        raise IdempotencyKeyReused


#: Part of a larger statement: claims the keys of many requests, in their order, so that two lists never wait for each
#: other in turn. It reads them from `asked`, and has a row for each key, with the answer that is stored under it. Only
#: repetitions are counted. A key is claimed for another payment than the asked one if it was there before.
CLAIMED: Final = """
    claimed AS (
        INSERT INTO payments_idempotencykey AS stored
            (merchant_id, key, fingerprint, status_code, body, location, payment_id)
        SELECT merchant_id, key, fingerprint, status_code, body, location, id
        FROM asked
        WHERE claims
        ORDER BY merchant_id, key
        ON CONFLICT (merchant_id, key) DO UPDATE
        SET replays = stored.replays + (stored.fingerprint = excluded.fingerprint)::int
        RETURNING merchant_id, key, payment_id, fingerprint, status_code, body, location
    )
"""


def complete(*, merchant: Merchant, key: str, answer: Answer) -> Answer:
    """Store the answer of an operation under its key, in the transaction that claimed it."""
    assert connection.in_atomic_block, "an answer is stored in the transaction of its operation"
    stored = IdempotencyKey.objects.filter(merchant=merchant, key=key)
    stored.update(status_code=answer.status_code, body=answer.body, location=answer.location)
    return answer


PRUNE: Final = """
    DELETE FROM payments_idempotencykey WHERE id IN (
        SELECT stored.id FROM payments_idempotencykey AS stored
        LEFT JOIN payments_payment AS payment ON payment.id = stored.payment_id
        WHERE stored.created_at < %(before)s AND (stored.payment_id IS NULL OR payment.status = ANY(%(final)s))
        ORDER BY stored.created_at
        LIMIT %(batch)s
        FOR UPDATE OF stored SKIP LOCKED
    )
"""


def prune(*, before: datetime, batch: int) -> int:
    """Forget one batch of keys that were stored before a time; returns how many.

    A key stays as long as its payment is not final: forgotten, it would let the same request charge again.
    """
    with connection.cursor() as cursor:
        cursor.execute(PRUNE, {"before": before, "final": sorted(FINAL), "batch": batch})
        return int(cursor.rowcount)
