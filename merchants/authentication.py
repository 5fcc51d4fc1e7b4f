"""Turns a request's credential into a `Principal`: an API key or a JWT, both as bearer tokens."""

from typing import Any, cast

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

from merchants import api_keys
from merchants.models import ApiKey, Membership, Mode, User
from merchants.principal import KEY_SCOPES, ROLE_SCOPES, Principal, staff_scopes


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
        principal = Principal(
            id=f"key:{record.prefix}",
            merchant=record.merchant,
            mode=Mode(record.mode),
            scopes=frozenset(record.scopes) & KEY_SCOPES,
        )
        return principal, record

    def authenticate_header(self, request: Request) -> str:
        """The `WWW-Authenticate` header of a 401 (RFC 6750)."""
        return 'Bearer realm="api"'


class MerchantJWTAuthentication(JWTAuthentication):
    """`Authorization: Bearer <JWT>`: a person, acting for the merchant and mode named in the token.

    The role is read from the database at every request, so that a removed member is out at once.
    """

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        """Return the caller, or None when the request carries no JWT."""
        result = super().authenticate(request)
        if result is None:
            return None
        user, token = result
        membership = (
            Membership.objects.select_related("merchant")
            .filter(user=user.pk, merchant=token.get("merchant"), merchant__is_active=True)
            .first()
        )
        if membership is None:
            raise AuthenticationFailed("You are no member of this merchant any more.", code="membership_ended")
        person = cast("User", user)
        principal = Principal(
            id=f"user:{person.pk}",
            merchant=membership.merchant,
            mode=Mode(token["mode"]),
            scopes=ROLE_SCOPES[membership.role] | staff_scopes(person),
            user=person,
        )
        return principal, token


def presented_key(request: Request) -> str | None:
    """The API key that a request carries, if any. Non-ASCII credentials are nobody's key."""
    if header := request.headers.get("X-API-Key"):
        return header
    scheme, _, credential = get_authorization_header(request).decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and api_keys.looks_like_key(credential.strip()):
        return credential.strip()
    return None
