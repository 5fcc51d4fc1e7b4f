"""Signatures of webhooks by Standard Webhooks 1.0, https://www.standardwebhooks.com, made by its own package."""

import base64
import math
import secrets as random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

#: As long as the hash (RFC 2104, section 3); the standard allows 24 to 64.
SECRET_BYTES: Final = 32
USER_AGENT: Final = "payments-webhooks/1"


def new_secret() -> str:
    """A new secret, `whsec_` and the base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


def headers_of(*, event_id: str, body: bytes, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """The headers of one attempt, with one signature for each secret: receivers change theirs when it suits them."""
    moment, text = now.astimezone(UTC), body.decode()  # the package takes any time for UTC
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": event_id,
        "webhook-timestamp": str(math.floor(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, moment, text) for secret in secrets),
    }
