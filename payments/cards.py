"""Card numbers, which we must never hold (PCI DSS 3.2): found wherever people may have written one."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

#: Digits in one run, or in groups with a space or a hyphen between them, as on a card.
DIGIT_GROUPS: Final = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
SEPARATOR: Final = re.compile(r"[ -]")
#: How many digits card numbers have (ISO/IEC 7812-1).
FEWEST_DIGITS: Final = 13
MOST_DIGITS: Final = 19
#: Digits as numbers, and what the Luhn check adds for a digit that it doubles.
_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
#: Equals no remainder.
_NONE: Final = 255


def has_card_number(text: str) -> bool:
    """Whether 13 to 19 digits in the text, in one run or in neighbouring groups, pass the Luhn check.

    Takes time in proportion to the length of the text: a fraction of a millisecond for the longest that is accepted.
    """
    return any(
        holds_card_number(SEPARATOR.split(found[0]))
        for found in DIGIT_GROUPS.finditer(text)
        if len(found[0]) >= FEWEST_DIGITS
    )


def without_card_numbers(text: str) -> str:
    """The text with stars in the place of the digits of card numbers, and of what stands in one group with them."""
    return DIGIT_GROUPS.sub(
        lambda found: re.sub("[0-9]", "*", found[0]) if has_card_number(found[0]) else found[0], text
    )


def holds_card_number(groups: Sequence[str]) -> bool:
    """Whether a sequence of neighbouring groups of digits is as long as a card number, and passes the Luhn check.

    It passes between two edges of groups where the Luhn sums up to them have the same last digit. For each first edge,
    the last ones that are 13 to 19 digits away are compared with it at once.
    """
    edges = list(accumulate(map(len, groups), initial=0))
    digits = "".join(groups).encode()
    even, odd = _luhn_remainders(digits, doubled_at=0), _luhn_remainders(digits, doubled_at=1)
    at_even_edges = bytes(_NONE if edge % 2 else even[edge] for edge in edges)
    at_odd_edges = bytes(odd[edge] if edge % 2 else _NONE for edge in edges)
    first = last = 0
    for start in edges:
        while first < len(edges) and edges[first] - start < FEWEST_DIGITS:
            first += 1
        while last < len(edges) and edges[last] - start <= MOST_DIGITS:
            last += 1
        if even[start] in at_even_edges[first:last] or odd[start] in at_odd_edges[first:last]:
            return True
    return False


def _luhn_remainders(digits: bytes, *, doubled_at: int) -> bytes:
    """Return the last digit of the Luhn sum of each beginning of `digits`.

    The check doubles every second digit from the right, so those at even places of a number that ends at an even
    place, counted from the beginning of `digits`, and otherwise those at odd places.
    """
    summands = bytearray(digits.translate(_PLAIN))
    summands[doubled_at::2] = digits[doubled_at::2].translate(_DOUBLED)
    return bytes(total % 10 for total in accumulate(summands, initial=0))
