"""Reads the headers that strangers' clients write, whatever they hold.

pika fails at a time that Python cannot hold (milliseconds where AMQP has seconds will do), and the failure ends the
process: its message would come back to kill the next one, and in the dead-letter queue the collector.
"""

from typing import Any, Final

from pika import data

#: The type of a time in a header, and the bytes of type and value together.
TIME: Final = b"T"
WIDTH: Final = 9

decode_strictly = data.decode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """A header's value, and where the next one begins; None for a time that Python cannot hold."""
    try:
        return decode_strictly(encoded, offset)
    except (ValueError, OverflowError, OSError):
        if encoded[offset : offset + 1] != TIME:
            raise
        return None, offset + WIDTH


def install() -> None:
    """Have pika read all headers this way; it offers no other place for it."""
    data.decode_value = decode_value
