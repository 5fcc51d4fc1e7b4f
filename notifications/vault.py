"""Webhook secrets at rest: encrypted with the keys of the setting `ENCRYPTION_KEYS`, so that a copy of the database
signs nothing. The newest key encrypts, all of them decrypt.

Fernet: AES-128-CBC and HMAC-SHA256, https://github.com/fernet/spec/blob/master/Spec.md
"""

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Locked(Exception):
    """A secret was encrypted with a key that ENCRYPTION_KEYS does not have: put that key back, behind the new one."""


def lock(secret: str) -> str:
    """The secret, encrypted with the newest key."""
    return ring(tuple(settings.ENCRYPTION_KEYS)).encrypt(secret.encode()).decode()


def unlock(token: str) -> str:
    """The secret in what `lock` returned.

    Raises:
        Locked: none of our keys made it.
    """
    from cryptography.fernet import InvalidToken  # noqa: PLC0415  # 7 MB, for processes that have to do with a secret

    try:
        return ring(tuple(settings.ENCRYPTION_KEYS)).decrypt(token).decode()
    except InvalidToken:
        raise Locked from None


def relock(token: str) -> str:
    """The same secret, encrypted with the newest key.

    Raises:
        Locked: none of our keys made it.
    """
    return lock(unlock(token))


@cache
def ring(keys: tuple[str, ...]) -> "MultiFernet":
    """The keys, newest first. Any text makes one: its hash has the length that Fernet wants."""
    from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415  # as above

    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in keys])
