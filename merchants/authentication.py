"""Turns a request's credential into a `Principal`: an API key or a JWT, both as bearer tokens."""

from typing import Any, Final

from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import Token

from merchants import api_keys, sessions
from merchants.models import ApiKey, LoginSession, Mode
from merchants.principal import KEY_SCOPES, ROLE_SCOPES, Principal, staff_scopes
from merchants.refusals import CredentialsDiffer, TokenExpired
from merchants.signing import AccessToken

#: Which of these it was is not told.
SESSION_OVER: Final = "This login has ended, or you are no member of this merchant any more: log in again."
TOKEN_INVALID: Final = "This access token is not valid: log in again."  # noqa: S105  # none  # nosec B105


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer sk_…` or `X-API-Key: sk_…`."""

    def authenticate(self, request: Request) -> tuple[Principal, ApiKey] | None:
        """Return the caller, or None when the request carries no API key.

        Raises:
            AuthenticationFailed: the key is unknown, expired or revoked; which of them is not told.
        """
        key = presented_key(request)
        if key is None:
            return None
        now = timezone.now()
        record = api_keys.find_key(key, now=now)
        if record is None:
            raise AuthenticationFailed("This API key is unknown, expired or revoked.", code="api_key_invalid")
        api_keys.note_use(record, now=now)
        return principal_by_key(record), record

    def authenticate_header(self, request: Request) -> str:
        """The `WWW-Authenticate` header of a 401 (RFC 6750)."""
        return 'Bearer realm="api"'


class MerchantJWTAuthentication(JWTAuthentication):
    """`Authorization: Bearer <JWT>`: a person, acting for the merchant and mode of the token's session.

    Session, person and role are read from the database at every request, in one query, so that who logged out, was
    removed or has another password is out at once.
    """

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        """Return the caller, or None when the request carries no JWT.

        Raises:
            TokenExpired: the token has expired.
            AuthenticationFailed: it is not valid, or its session has ended.
        """
        header: bytes | None = self.get_header(request)
        try:
            raw_token = None if header is None else self.get_raw_token(header)
        except AuthenticationFailed:  # the scheme alone, or more than one word behind it
            raise AuthenticationFailed(TOKEN_INVALID, code="token_not_valid") from None
        if raw_token is None:
            return None
        try:
            token = AccessToken(raw_token)  # type: ignore[arg-type]  # it takes the bytes of the header
        except ExpiredTokenError:
            raise TokenExpired from None
        except TokenError:
            raise AuthenticationFailed(TOKEN_INVALID, code="token_not_valid") from None
        try:
            found = sessions.caller_behind(token, now=timezone.now())
        except TokenError:
            raise AuthenticationFailed(SESSION_OVER, code="token_not_valid") from None
        if found is None:
            raise AuthenticationFailed(SESSION_OVER, code="session_over")
        return principal_of(*found), token


def principal_by_key(record: ApiKey) -> Principal:
    """Whoever has the key."""
    return Principal(
        id=f"key:{record.prefix}",
        merchant=record.merchant,
        mode=Mode(record.mode),
        scopes=frozenset(record.scopes) & KEY_SCOPES,
    )


def principal_of(session: LoginSession, role: str) -> Principal:
    """A person in a session. What only staff may do needs a session that began with a second factor."""
    trusted = session.second_factor or not settings.ADMIN_SECOND_FACTOR
    return Principal(
        id=f"user:{session.user_id}",
        merchant=session.merchant,
        mode=Mode(session.mode),
        scopes=ROLE_SCOPES[role] | (staff_scopes(session.user) if trusted else frozenset()),
        user=session.user,
    )


def presented_key(request: Request) -> str | None:
    """Return the API key that a request carries, if any. A non-ASCII credential matches no key.

    Raises:
        CredentialsDiffer: two headers hold different credentials, and which of them is meant is unknown.
    """
    header = request.headers.get("X-API-Key")
    authorization = get_authorization_header(request).decode("latin-1").strip()
    scheme, _, credential = authorization.partition(" ")
    bearer = credential.strip() if scheme.lower() == "bearer" else None
    if header:
        if authorization and bearer != header.strip():
            raise CredentialsDiffer
        return header
    return bearer if bearer and api_keys.looks_like_key(bearer) else None
