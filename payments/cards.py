"""Card numbers, which we must never hold (PCI DSS 3.2): found wherever people may have written one."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

#: Digits in one run, or in groups with a space or a hyphen between them, as on a card.
DIGIT_GROUPS: Final = re.compile(r"[0-9]+(?:[ -][0-9]+)*")
#: How many digits card numbers have (ISO/IEC 7812-1).
CARD_LENGTHS: Final = range(13, 20)
#: Twice a digit, and the digits of that added up.
DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def has_card_number(text: str) -> bool:
    """Whether 13 to 19 digits in the text, in one run or in neighbouring groups, pass the Luhn check."""
    return any(holds_card_number(re.split("[ -]", found[0])) for found in DIGIT_GROUPS.finditer(text))


def without_card_numbers(text: str) -> str:
    """The text with stars in the place of the digits of card numbers, and of what stands in one group with them."""
    return DIGIT_GROUPS.sub(
        lambda found: re.sub("[0-9]", "*", found[0]) if has_card_number(found[0]) else found[0], text
    )


def holds_card_number(groups: Sequence[str]) -> bool:
    """Whether a sequence of neighbouring groups of digits is as long as a card number, and passes the Luhn check."""
    edges = [0, *accumulate(map(len, groups))]
    sums = luhn_sums("".join(groups))
    return any(
        (sums[end % 2][end] - sums[end % 2][start]) % 10 == 0
        for place, start in enumerate(edges)
        for end in edges[place + 1 : place + CARD_LENGTHS.stop]
        if end - start in CARD_LENGTHS
    )


def luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    """The sums that the Luhn check makes of all beginnings of a text, as if it ended at an even place, or at an odd
    one: every second digit from the right is doubled. Of two beginnings, the difference is that of what lies between.
    """
    sums = []
    for doubled_at in (0, 1):
        signs = (DOUBLED[int(digit)] if place % 2 == doubled_at else int(digit) for place, digit in enumerate(digits))
        sums.append([0, *accumulate(signs)])
    return sums[0], sums[1]
