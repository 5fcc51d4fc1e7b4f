"""Time-ordered ids, so that new rows land at the end of every index."""

import secrets
import time
import uuid
from datetime import datetime


def uuid7() -> uuid.UUID:
    """A version 7 UUID of this moment."""
    return of_milliseconds(time.time_ns() // 1_000_000)


def uuid7_at(moment: datetime) -> uuid.UUID:
    """A version 7 UUID of another moment, for what is written later than it happened."""
    return of_milliseconds(int(moment.timestamp() * 1000))


def of_milliseconds(milliseconds: int) -> uuid.UUID:
    """A version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    value = milliseconds << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
