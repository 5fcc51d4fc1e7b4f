"""Reads the headers that strangers' clients write, whatever they hold.

pika fails at a time that Python cannot hold (milliseconds where AMQP has seconds will do), and at tables nested deeper
than Python recurses. The failure ends the process or its connection: the message would come back to end the next one,
and in the dead-letter queue the collector.
"""

import struct
from typing import Any, Final

from pika import data

#: The type of a time in a header, and the bytes of type and value together.
TIME: Final = b"T"
WIDTH: Final = 9
#: Types that hold others, each after its length; and the bytes of type and length together.
NESTING: Final = (b"A", b"F")
HEAD: Final = 5

decode_strictly = data.decode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """A header's value, and where the next one begins; None for one that Python cannot hold."""
    try:
        return decode_strictly(encoded, offset)
    except (ValueError, OverflowError, OSError, RecursionError):
        kind = encoded[offset : offset + 1]
        if kind in NESTING:
            return None, offset + HEAD + struct.unpack_from(">I", encoded, offset + 1)[0]
        if kind != TIME:
            raise
        return None, offset + WIDTH


def install() -> None:
    """Have pika read all headers this way; it offers no other place for it."""
    data.decode_value = decode_value
