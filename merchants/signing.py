"""How tokens are signed: by the newest of our keys, and each names the key that it was signed with."""

import hashlib
from typing import Any, Final

import jwt
from django.conf import settings
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken
from rest_framework_simplejwt.settings import api_settings

#: The one algorithm, whatever a token's header says (RFC 8725, section 3.1).
ALGORITHM: Final = "HS256"
REQUIRED: Final = ("exp", "iat", "jti", "iss", "aud", "token_type")


def key_id(key: str) -> str:
    """The name of a key: nobody learns the key from it."""
    return hashlib.sha256(b"payments: the id of a signing key\0" + key.encode()).hexdigest()[:16]


class RotatingKeys(TokenBackend):
    """Signs with the first of `JWT_SIGNING_KEYS`, and takes tokens of all of them: of each, only by its own name."""

    def __init__(self) -> None:
        super().__init__(ALGORITHM, audience=api_settings.AUDIENCE, issuer=api_settings.ISSUER)

    def encode(self, payload: dict[str, Any]) -> str:
        """The signed token."""
        key = settings.JWT_SIGNING_KEYS[0]
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id(key)})

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:  # its interface
        """The claims of a token of ours.

        Raises:
            TokenBackendExpiredToken: it was one.
            TokenBackendError: it is none.
        """
        assert verify, "nobody reads a token without verifying it"
        try:
            named = jwt.get_unverified_header(token).get("kid")
            key = next((key for key in settings.JWT_SIGNING_KEYS if key_id(key) == named), None)
            if key is None:
                raise TokenBackendError("Token is invalid")
            return self.read(token, key)
        except jwt.ExpiredSignatureError as error:
            raise TokenBackendExpiredToken("Token is expired") from error
        except jwt.InvalidTokenError as error:
            raise TokenBackendError("Token is invalid") from error

    def read(self, token: Any, key: str) -> dict[str, Any]:
        """The claims, if this key signed them. Raises jwt.InvalidTokenError."""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=self.audience,
            issuer=self.issuer,
            options={"require": list(REQUIRED)},
        )
        return claims


class AccessToken(tokens.AccessToken):
    """For the `Authorization` header."""

    _token_backend = RotatingKeys()


class RefreshToken(tokens.RefreshToken):
    """For `POST /token/refresh`, once."""

    _token_backend = RotatingKeys()
    access_token_class = AccessToken
