"""Reads the headers that strangers' clients write, whatever they hold.

pika fails at a time that Python cannot hold (milliseconds where AMQP wants seconds will do), at an infinity and at
NaN, and the failure ends the process: its message would come back to kill the next one, in the dead-letter queue too.
"""

from typing import Any, Final

from pika import data

#: Types of header fields whose value pika may fail to convert -> their width in bytes.
WIDTHS: Final = {b"T": 8, b"f": 4, b"d": 8}

decode_strictly = data.decode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """A field's value and where the next one begins; None for a value that Python cannot hold."""
    try:
        return decode_strictly(encoded, offset)
    except (ValueError, ArithmeticError, OSError):
        width = WIDTHS.get(encoded[offset : offset + 1])
        if width is None:
            raise
        return None, offset + 1 + width


def install() -> None:
    """Have pika read all headers this way; it offers no other place for it."""
    data.decode_value = decode_value
