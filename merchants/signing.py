"""How tokens are signed: by the newest of our keys, and each names the key that it was signed with."""

import hashlib
import time
from typing import Any, Final

import jwt
from django.conf import settings
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken
from rest_framework_simplejwt.settings import api_settings

#: The one algorithm, whatever a token's header says (RFC 8725, section 3.1).
ALGORITHM: Final = "HS256"
#: Seconds that the clocks of two of our servers may differ: what one has just signed, the other takes. It does not make
#: a token live longer, as simplejwt looks at `exp` again.
LEEWAY: Final = 5
#: Tokens of so many callers are remembered; each takes about a kilobyte.
MOST_REMEMBERED: Final = 2_000
REQUIRED: Final = ("exp", "iat", "jti", "iss", "aud", "token_type")
#: Claims that are times, in seconds since 1970 (RFC 7519, section 2, NumericDate).
TIMES: Final = ("exp", "iat", "nbf")
#: The last second of the year 9999: nothing later can be read as a date.
LATEST_TIME: Final = 253_402_300_799

Keys = tuple[str, ...]


def key_id(key: str) -> str:
    """The name of a key: nobody learns the key from it."""
    return hashlib.sha256(b"payments: the id of a signing key\0" + key.encode()).hexdigest()[:16]


class VerifiedTokens:
    """What was signed by these keys once is signed by them for ever: the claims of tokens, by their digests.

    Only that is remembered. That a token has begun and not ended is looked at each time, and so, by who asks, is its
    session.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[Keys, dict[str, Any]]] = {}

    def claims_of(self, token: Any, keys: Keys) -> dict[str, Any] | None:
        """What a token says; None unless it was verified with these very keys, and its time is now."""
        signed_by, claims = self.known.get(digest(token), ((), {}))
        return claims if claims and signed_by == keys and claims["iat"] <= time.time() < claims["exp"] else None

    def remember(self, token: Any, keys: Keys, claims: dict[str, Any]) -> None:
        """Do so, and forget all others when they are many: each is worth one verification."""
        if len(self.known) >= MOST_REMEMBERED:
            self.known.clear()
        self.known[digest(token)] = (keys, dict(claims))


def digest(token: Any) -> bytes:
    """What is kept in place of a token."""
    return hashlib.sha256(token if isinstance(token, bytes) else str(token).encode()).digest()


class RotatingKeys(TokenBackend):
    """Signs with the first of `JWT_SIGNING_KEYS`, and takes tokens of all of them: of each, only by its own name."""

    def __init__(self) -> None:
        super().__init__(ALGORITHM, audience=api_settings.AUDIENCE, issuer=api_settings.ISSUER)
        self.verified = VerifiedTokens()

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
        keys = tuple(settings.JWT_SIGNING_KEYS)
        known = self.verified.claims_of(token, keys)
        if known is None:
            known = self.decode_anew(token)
            self.verified.remember(token, keys, known)
        return dict(known)

    def decode_anew(self, token: Any) -> dict[str, Any]:
        """As `decode`, of a token that is new to us."""
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
            leeway=LEEWAY,
            options={"require": list(REQUIRED)},
        )
        if not all(is_time(claims[name]) for name in TIMES if name in claims):
            raise jwt.DecodeError("A claim that is a time has no time for its value")
        return claims


def is_time(value: Any) -> bool:
    """Return whether a claim is a NumericDate that can be read as a date: no text, no boolean, not NaN or infinite."""
    return type(value) in {int, float} and 0 <= value <= LATEST_TIME


class AccessToken(tokens.AccessToken):
    """For the `Authorization` header."""

    _token_backend = RotatingKeys()


class RefreshToken(tokens.RefreshToken):
    """For `POST /token/refresh`, once."""

    _token_backend = RotatingKeys()
    access_token_class = AccessToken
