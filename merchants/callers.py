"""Who calls, of many requests at once: each credential is looked up once, and all of a kind by one query.

The authenticators of `merchants.authentication` ask the same of one request, and say what is wrong with it. Here
nothing is said: a credential that is not found is not in the answer.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from rest_framework import HTTP_HEADER_ENCODING

from merchants import api_keys, sessions
from merchants.authentication import MerchantJWTAuthentication, principal_by_key, principal_of
from merchants.principal import Principal
from merchants.signing import AccessToken

#: Reads tokens.
READER: Final = MerchantJWTAuthentication()


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller shows: an API key, or else an access token."""

    text: str = field(repr=False)
    is_key: bool


def credential_in(*, api_key: str | None, authorization: str | None) -> Credential | None:
    """The credential of two headers, where they hold one in its usual form and nothing else."""
    scheme, _, text = (authorization or "").partition(" ")
    if api_key:
        return None if authorization else Credential(api_key, is_key=True)
    if scheme != "Bearer" or text.split() != [text]:
        return None
    return Credential(text, is_key=api_keys.looks_like_key(text))


def callers_behind(credentials: Iterable[Credential], *, now: datetime) -> dict[Credential, Principal]:
    """The callers whose credentials are good now. Read anew each time, as for a single request."""
    shown = set(credentials)
    keys = [credential for credential in shown if credential.is_key]
    return callers_by_key(keys, now=now) | callers_by_token(shown.difference(keys), now=now)


def callers_by_key(keys: Collection[Credential], *, now: datetime) -> dict[Credential, Principal]:
    """Those with API keys; that the keys were used is noted."""
    if not keys:
        return {}
    found = api_keys.find_together([(api_keys.digest(key.text), now) for key in keys])
    records = {key: record for key, listed in zip(keys, found, strict=True) for record in listed}
    api_keys.note_uses(records.values(), now=now)
    return {key: principal_by_key(record) for key, record in records.items()}


def callers_by_token(tokens: Collection[Credential], *, now: datetime) -> dict[Credential, Principal]:
    """Those in a session."""
    claims = {token: said for token in tokens if (said := claims_in(token))}
    if not claims:
        return {}
    found = sessions.find_together([(said, now) for said in claims.values()])
    return {token: principal_of(*session) for token, listed in zip(claims, found, strict=True) for session in listed}


def claims_in(token: Credential) -> sessions.Claims | None:
    """What a token of ours says of its session; None if it is none."""
    try:
        shown = token.text.encode(HTTP_HEADER_ENCODING)
        read = cast("AccessToken", READER.get_validated_token(shown))  # as `AUTH_TOKEN_CLASSES` says
        return sessions.claims_of(read)
    except Exception:  # noqa: BLE001  # strangers write these: whatever one of them runs into, the others go on
        return None
